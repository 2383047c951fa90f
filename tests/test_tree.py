"""The shape of the code itself: names, sizes, docstrings, and one list of reasons and methods everywhere."""

import ast
import re
from pathlib import Path

import pytest

from bacmr.v1 import (
    access_pb2,
    admin_pb2,
    auth_pb2,
    errors_pb2,
    ingestion_pb2,
    quiz_pb2,
    retrieval_pb2,
    wallet_pb2,
)
from server import refusal

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "server").rglob("*.py"))
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 70
NAMELESS = {"util", "utils", "helper", "helpers", "common", "misc", "shared", "base", "manager"}
SERVICES = [
    service
    for module in (admin_pb2, auth_pb2, ingestion_pb2, quiz_pb2, retrieval_pb2, wallet_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
]
METHODS = [method for service in SERVICES for method in service.methods]


def named(rule):
    return [str(path.relative_to(ROOT)) for path in SOURCES if rule(path)]


def functions(path):
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_every_module_is_named_for_what_it_holds():
    assert named(lambda path: path.stem in NAMELESS or path.parent.name in NAMELESS) == []


def test_no_module_outgrows_a_reading():
    assert named(lambda path: len(path.read_text().splitlines()) > MAX_MODULE_LINES) == []


def test_no_function_outgrows_a_screen():
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in SOURCES
        for node in functions(path)
        if (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES
    ]
    assert long == []


def test_every_module_says_what_it_is():
    assert named(lambda path: ast.get_docstring(ast.parse(path.read_text())) is None) == []


def test_only_the_edge_ends_a_call():
    assert named(lambda path: ".abort(" in path.read_text() and "edge" not in path.parts) == []


def test_only_settings_and_the_command_line_read_the_environment():
    readers = named(lambda path: re.search(r"\bos\.(environ|getenv)\b", path.read_text()) is not None)
    # The seat writes there what the metrics library takes from nowhere else.
    allowed = ("server/config.py", "server/__main__.py", "server/cli/", "server/telemetry/seat.py")
    assert [reader for reader in readers if not reader.startswith(allowed)] == []


def test_every_refusal_is_a_reason_of_the_contract_and_back():
    classes = {kind for kind in vars(refusal).values() if isinstance(kind, type) and issubclass(kind, refusal.Refusal)}
    ours = {kind.reason for kind in classes - {refusal.Refusal}}
    contract = {name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()}  # noqa: SIM118
    assert ours == contract - {"UNSPECIFIED", "INTERNAL"}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_every_method_states_its_access(method):
    assert method.GetOptions().HasExtension(access_pb2.access)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_requests_and_unary_responses_carry_their_methods_name(method):
    assert method.input_type.name == f"{method.name}Request"
    if method.server_streaming:
        assert method.output_type.name.endswith("Event")
    else:
        assert method.output_type.name == f"{method.name}Response"


def test_admin_methods_and_service_methods_are_refused_on_grpc_web():
    operators_only = [
        method
        for method in METHODS
        if method.containing_service.name == "AdminService"
        or list(method.GetOptions().Extensions[access_pb2.access].roles) == [access_pb2.ROLE_SERVICE]
    ]
    assert [m.full_name for m in operators_only if not m.GetOptions().Extensions[access_pb2.access].internal] == []
