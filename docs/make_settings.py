"""Write the tables of docs/operations.md that follow from the code: `python docs/make_settings.py`.

Settings come from server/config.py (names, defaults, groups and what stands below a field), metrics from what the
server registers. A setting that nothing explains is an error.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

ROOT: Final = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from server.config import IssuerSettings, ProviderSettings, Settings  # noqa: E402
from server.telemetry import metrics  # noqa: E402
from server.telemetry.metrics.families import REGISTRY  # noqa: E402

FILE: Final = ROOT / "docs" / "operations.md"
EXTREMES: Final = ("_lowest", "_highest")
DEFAULTS: Final = {"data_dir": "a folder of the user; `/var/lib/bacmr` for root"}
MEANINGS: Final = {
    "data_dir": "Folder of everything embedded, of the signing keys and of the installation's secret",
    "grpc_listen": "Address and port of gRPC; port 0 takes a free one",
    "http_listen": "Address and port of HTTP: gRPC-Web, uploads, metrics, probes, the web app",
    "tls_cert_file": "Certificate chain of both ports (PEM)",
    "tls_key_file": "Its private key (PEM)",
    "allow_plaintext": "Listen beyond loopback without TLS, behind a proxy that ends it",
    "database_pool_size": "Most transactions at once per process; half as many sessions for the wallet come on top",
    "milvus_uri": "Milvus, as in `http://milvus:19530`; unset: Milvus Lite as a child process",
    "milvus_token": "`user:password` or API key of Milvus",
    "redis_url": "Redis, so that several processes share limits; unset: each counts for itself",
    "blob_url": "Files: `file://`, `s3://bucket/prefix?endpoint=…&region=…`, `gs://`, `az://`; unset: a folder",
    "model_providers": "JSON list of endpoints in fallback order, fields below; unset: the local provider answers",
    "openai_api_key": "Enough alone for OpenAI: gpt-4o, with gpt-4o-mini for small steps",
    "embedding_base_url": "Endpoint of the embedding model",
    "embedding_api_key": "Its key; unset: `OPENAI_API_KEY`",
    "embedding_dimensions": "Length of its vectors",
    "breaker_failures": "Failures in a row that open a circuit breaker",
    "breaker_open_seconds": "How long an open breaker leaves its service alone before one call tries again",
    "jwt_issuer": "`iss` of our access tokens",
    "jwt_audience": "`aud` of our access tokens",
    "jwt_access_ttl_seconds": "Life of an access token",
    "jwt_refresh_ttl_seconds": "Life of a refresh token; each use starts it again",
    "jwt_external_issuers": "JSON list of other issuers whose tokens are accepted, fields below",
    "bootstrap_admin_email": "Administrator that is made at start when it does not exist",
    "bootstrap_admin_password": "Its first password",
    "welcome_tokens": "Grant of a new wallet",
    "reservation_ttl_seconds": "How long tokens stay held if nobody settles, 30 to 3600; an answer may take 80% of it",
    "limits_paid_per_minute_free": "Ask and GenerateQuiz per minute, tier free",
    "limits_paid_per_minute_standard": "The same, tier standard",
    "limits_paid_per_minute_premium": "The same, tier premium",
    "limits_sign_in_per_15_minutes": "Wrong passwords per account and per address; taken names at sign-up per address",
    "limits_upload_bytes": "Largest file",
    "limits_message_bytes": "Largest gRPC message, each way",
    "limits_concurrent_streams": "Streams per connection, and open ones per process",
    "results_free": "Most passages of a search, tier free",
    "results_standard": "The same, tier standard",
    "results_premium": "The same, tier premium",
    "chunk_tokens_french": "Size of a French chunk",
    "chunk_overlap_french": "Tokens that neighbours share",
    "chunk_tokens_arabic": "Size of an Arabic or Hassaniya chunk",
    "chunk_overlap_arabic": "Tokens that neighbours share",
    "worker_concurrency": "Jobs at once per process, and files read at once; 0: this server runs no jobs at all",
    "operations_concurrency": "Long-running operations at once per process, beside those jobs",
    "extraction_timeout_seconds": "Time to read one file; each page that needs OCR adds 30 s",
    "extraction_memory_bytes": "Memory of one reader process",
    "extraction_max_pages": "Longest file",
    "log_level": "`debug`, `info`, `warning` or `error`",
    "otlp_endpoint": "OpenTelemetry collector, as in `http://collector:4317`; unset: no traces",
    "channelz": "Serve grpc.channelz to administrators",
    "drain_seconds": "Time that running calls, and then running answers, get when the server stops",
    "name": "What metrics and breakers call it",
    "base_url": "Endpoint that speaks the OpenAI protocol",
    "model": "Model that answers",
    "small_model": "Model for small steps and the cheaper plans; empty: the same",
    "api_key": "Its key",
    "token_param": "How the endpoint calls the limit of an answer",
    "supports_schema": "Whether it takes a JSON schema for quizzes",
    "timeout_seconds": "Longest wait for the next bytes",
    "issuer": "`iss` of its tokens",
    "audience": "`aud` of its tokens",
    "jwks_url": "Where it publishes its keys; this or `hs256_secret`",
    "hs256_secret": "Secret of at least 32 bytes that it signs with",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A field as the table shows it; `group` is the comment above its part of the class."""

    group: str
    name: str
    default: str
    meaning: str


def tables() -> dict[str, str]:
    """Return each generated part of the page by its name."""
    return {
        "settings": _settings(),
        "providers": _table(_rows(ProviderSettings), "Field"),
        "issuers": _table(_rows(IssuerSettings), "Field"),
        "metrics": _metrics(),
    }


def page(text: str) -> str:
    """Return the page with its generated parts made again."""
    for name, table in tables().items():
        begin, end = f"<!-- {name}: made by make_settings.py -->", f"<!-- /{name} -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), flags=re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"{FILE.name} has no part {name}")
        before, after = pattern.split(text, maxsplit=1)
        text = f"{before}{begin}\n{table}\n{end}{after}"
    return text


def _settings() -> str:
    rows = _rows(Settings)
    groups = list(dict.fromkeys(row.group for row in rows))
    return "\n\n".join(
        f"### {group}\n\n{_table([row for row in rows if row.group == group], 'Setting')}" for group in groups
    )


def _table(rows: list[Row], first: str) -> str:
    lines = [f"| {first} | Default | Meaning |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| `{row.name}` | {row.default} | {row.meaning} |" for row in rows)])


def _rows(model: type[BaseModel]) -> list[Row]:
    written = dict(_written(model))
    return [_row(model, name, *written.get(name, ("", ""))) for name in model.model_fields]


def _row(model: type[BaseModel], name: str, group: str, below: str) -> Row:
    field = model.model_fields[name]
    meaning = ". ".join(part.rstrip(".") for part in (MEANINGS.get(name, ""), below) if part)
    if not meaning:
        raise ValueError(f"nothing explains {model.__name__}.{name}: add it to MEANINGS or below the field")
    if SecretStr in (field.annotation, type(field.default)):
        meaning += " (secret)"
    shown = name
    if model is Settings:
        shown = str(field.validation_alias or f"BACMR_{name.upper()}")
    default = DEFAULTS.get(name) or _default(field.default, required=field.is_required())
    return Row(group, shown, default, meaning.replace("|", "\\|"))


def _default(value: Any, *, required: bool) -> str:
    if required or value is PydanticUndefined:
        return "required"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if value is None or value in ("", (), {}):
        return "unset"
    if isinstance(value, tuple):
        return "`" + ", ".join(map(str, value)) + "`"
    return f"`{value}`"


def _written(model: type[BaseModel]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield each field with the comment that opens its group and the sentence below it, from the source."""
    source = (ROOT / "server/config.py").read_text(encoding="utf-8")
    lines = source.splitlines()
    body = next(
        node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == model.__name__
    )
    group = ""
    for place, node in enumerate(body):
        above = lines[node.lineno - 2].strip()
        if above.startswith("# "):
            group = above.removeprefix("# ")
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, (group, _sentence(body[place + 1 : place + 2]))


def _sentence(following: list[ast.stmt]) -> str:
    match following:
        case [ast.Expr(value=ast.Constant(value=str(text)))]:
            return " ".join(text.split())
        case _:
            return ""


def _metrics() -> str:
    assert metrics.__doc__, "importing the module is what registers its metrics"
    lines = ["| Metric | Kind | Labels | Meaning |", "|---|---|---|---|"]
    registered: list[Any] = list(REGISTRY._collector_to_names)
    labels = {metric._name: metric._labelnames for metric in registered}
    for family in REGISTRY.collect():
        if family.name.endswith(EXTREMES):
            continue
        name = family.name + ("_total" if family.type == "counter" else "")
        named = ", ".join(f"`{label}`" for label in labels[family.name]) or "none"
        lines.append(f"| `{name}` | {family.type} | {named} | {family.documentation} |")
    return "\n".join(lines)


if __name__ == "__main__":
    FILE.write_text(page(FILE.read_text(encoding="utf-8")), encoding="utf-8")
