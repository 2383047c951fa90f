"""Write docs/api.md and docs/requests.md from the contract in protos/: `python docs/make_api.py`.

The descriptors are built here, with their comments, which generated code leaves out.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

ROOT: Final = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "clients" / "python")]

from bacmr.v1 import (  # noqa: E402
    access_pb2,
    admin_pb2,
    auth_pb2,
    ingestion_pb2,
    quiz_pb2,
    retrieval_pb2,
    wallet_pb2,
)
from server.edge.policy import DEFAULT_DEADLINE_SECONDS, MAX_DEADLINE_SECONDS  # noqa: E402

SERVICES: Final[tuple[ServiceDescriptor, ...]] = tuple(
    service
    for module in (auth_pb2, wallet_pb2, retrieval_pb2, quiz_pb2, ingestion_pb2, admin_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
)
COSTS: Final = {access_pb2.COST_UNSPECIFIED: "", access_pb2.COST_PAID: "paid", access_pb2.COST_SIGN_IN: "guesses"}
SERVICE_FIELD, METHOD_FIELD, ENUM_FIELD, VALUE_FIELD = 6, 2, 5, 2
"""Numbers in the paths of source comments, from descriptor.proto."""

API_HEAD: Final = """# The API

Six services, package `bacmr.v1`; the contract with every field and rule is in `protos/bacmr/v1`. This page is made from
it by `python docs/make_api.py`; [a request for every RPC](requests.md) is beside it.

What holds for all of them:

- **Who**: a token in `authorization: Bearer …`. *anyone* needs none, *signed in* is every role. *internal* methods are
  refused on gRPC-Web, whoever calls. Services still check whose object it is; another person's is `NOT_FOUND`.
- **Cost**: *paid* calls reserve tokens and have a limit per tier (10, 30 or 60 a minute); *guesses* are attempts that
  can be guessed (5 in 15 minutes); all others count against 600 a minute per user, or per address without a token.
- **Deadline**: what a call gets when it asks for none, and the most it may ask for, in seconds.
- **request_id**: every call that changes or costs something takes a UUID made by the client. The same id with the same
  payload returns the first result for at least 24 hours; with another payload it is refused (`REQUEST_ID_REUSED`).
  An id is its caller's own: what an administrator adjusts and what a service reserves under one id are two requests.
  Take a new one for each call: an id that held tokens (`Ask`, `GenerateQuiz`, `Reserve`) is compared with others that
  do, not with those of calls that hold none.
- **x-request-id**: metadata, taken when it is a UUID, else made; it comes back in the metadata and in every error, and
  is in every log line, row and model call of the request.
- **Lists**: `page_size` (0 means 50, at most 200), `page_token`, `next_page_token`.
- **Streams**: every event has a `sequence` from 1 without gaps; a heartbeat comes at least every 15 s.
- A method of the contract that a server does not serve answers `UNIMPLEMENTED` with reason `METHOD_NOT_SERVED`.

A dropped link does not stop an answer: the server goes on, stores it, and charges once. Follow it again with
`ResumeAsk`; stop it with `CancelAsk`, which charges the prompt and what was produced. If the server dies, what had been
delivered is charged and the rest given back.
"""
ERRORS_HEAD: Final = """## Errors

Every refusal is a `google.rpc.Status` with `ErrorInfo{domain: "bacmr", reason}` and `RequestInfo`; `RetryInfo` says
when trying again helps. Nothing else of the server reaches a caller.
"""
REQUESTS_HEAD: Final = """# A request for every RPC

Made from the contract by `python docs/make_api.py`. Fields are shown empty: fill in what you need, leave out the rest.

```bash
export BACMR=http://127.0.0.1:50051 TOKEN=   # TOKEN: access_token of SignIn
call() { .venv/bin/buf curl --protocol grpc --http2-prior-knowledge \\
  --header "authorization: Bearer $TOKEN" --data "$2" "$BACMR/bacmr.v1.$1"; }
uuid() { cat /proc/sys/kernel/random/uuid; }
```

`$(uuid)` makes a new request id; keep the id when you retry.
"""


@dataclass(frozen=True, slots=True)
class Comments:
    """The comments of the contract by the full name of what they stand on."""

    by_name: Mapping[str, str]

    def of(self, name: str) -> str:
        """Return a comment in one line. Raises KeyError when there is none."""
        return " ".join(self.by_name[name].split())


def pages() -> dict[Path, str]:
    """Return both pages by their files."""
    comments = read_comments()
    return {ROOT / "docs" / "api.md": _api(comments), ROOT / "docs" / "requests.md": _requests()}


def read_comments() -> Comments:
    """Compile protos/ with source information and return its comments."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        files = sorted(str(file) for file in (ROOT / "protos").rglob("*.proto"))
        folders = [ROOT / "protos", *sorted((ROOT / "third_party").iterdir()), Path(protoc.__file__).parent / "_proto"]
        roots = [f"--proto_path={folder}" for folder in folders]
        arguments = ["protoc", *roots, "--include_source_info", f"--descriptor_set_out={out}", *files]
        if protoc.main(arguments):
            raise RuntimeError("the contract does not compile")
        found = FileDescriptorSet.FromString(out.read_bytes())
    return Comments(dict(pair for file in found.file for pair in _named_comments(file)))


def _named_comments(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    for location in file.source_code_info.location:
        text, path = location.leading_comments, tuple(location.path)
        match path:
            case (kind, at) if kind == SERVICE_FIELD:
                yield f"{file.package}.{file.service[at].name}", text
            case (kind, at, inner, place) if kind == SERVICE_FIELD and inner == METHOD_FIELD:
                service = file.service[at]
                yield f"{file.package}.{service.name}.{service.method[place].name}", text
            case (kind, at, inner, place) if kind == ENUM_FIELD and inner == VALUE_FIELD:
                yield f"{file.package}.{file.enum_type[at].value[place].name}", text


def _api(comments: Comments) -> str:
    parts = [API_HEAD]
    for service in SERVICES:
        parts.append(f"## {service.name}\n\n{comments.of(service.full_name)}\n")
        rows = [_method(method, comments) for method in service.methods]
        parts.append("\n".join(["| RPC | Who | Cost | Deadline | Meaning |", "|---|---|---|---|---|", *rows]) + "\n")
    return "\n".join([*parts, _reasons(comments)])


def _method(method: MethodDescriptor, comments: Comments) -> str:
    access = method.GetOptions().Extensions[access_pb2.access]
    default = access.default_deadline_seconds or int(DEFAULT_DEADLINE_SECONDS)
    longest = access.max_deadline_seconds or int(MAX_DEADLINE_SECONDS)
    name = f"{'stream → ' if method.client_streaming else ''}`{method.name}`"
    name += " → stream" if method.server_streaming else ""
    meaning = comments.of(method.full_name).replace("|", "\\|")
    return f"| {name} | {_who(access)} | {COSTS[access.cost]} | {default}, {longest} | {meaning} |"


def _who(access: access_pb2.Access) -> str:
    roles = [access_pb2.Role.Name(role).removeprefix("ROLE_").lower() for role in access.roles]
    who = "anyone" if access.public else ", ".join(roles) or "signed in"
    return f"{who} (internal)" if access.internal else who


def _reasons(comments: Comments) -> str:
    from bacmr.v1 import errors_pb2

    rows = []
    for value in errors_pb2.ErrorReason.DESCRIPTOR.values[1:]:
        code, _, meaning = comments.of(f"bacmr.v1.{value.name}").partition(". ")
        rows.append(f"| `{value.name.removeprefix('ERROR_REASON_')}` | `{code}` | {meaning} |")
    return "\n".join([ERRORS_HEAD, "| Reason | Code | Meaning |", "|---|---|---|", *rows]) + "\n"


def _requests() -> str:
    parts = [REQUESTS_HEAD]
    for service in SERVICES:
        lines = []
        for method in service.methods:
            if method.client_streaming:
                lines.append(f"# {method.name} takes a stream: `bacmr ingest FILE --namespace …` sends one.")
                continue
            body = json.dumps(_example(method.input_type)).replace('"$(uuid)"', "\"'$(uuid)'\"")
            lines.append(f"call {service.name}/{method.name} '{body}'")
        parts.append(f"## {service.name}\n\n```bash\n" + "\n".join(lines) + "\n```\n")
    return "\n".join(parts)


def _example(message: Descriptor) -> dict[str, Any]:
    return {field.name: _value(field) for field in message.fields}


def _value(field: FieldDescriptor) -> Any:
    one = _one(field)
    return [one] if field.is_repeated else one


def _one(field: FieldDescriptor) -> Any:
    if field.name == "request_id":
        return "$(uuid)"
    if field.message_type is not None:
        return _well_known(field.message_type)
    if field.enum_type is not None:
        return field.enum_type.values[0].name
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return ""
        case FieldDescriptor.CPPTYPE_BOOL:
            return False
        case _:
            return 0


def _well_known(message: Descriptor) -> Any:
    known = {
        "google.protobuf.Timestamp": "2027-01-01T00:00:00Z",
        "google.protobuf.Duration": "86400s",
        "google.protobuf.FieldMask": "",
    }
    return known[message.full_name] if message.full_name in known else _example(message)


if __name__ == "__main__":
    for file, text in pages().items():
        file.write_text(text, encoding="utf-8")
