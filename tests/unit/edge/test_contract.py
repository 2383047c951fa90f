"""Promises of the contract that a linter does not know."""

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from bacmr.v1 import admin_pb2, auth_pb2, ingestion_pb2, quiz_pb2, retrieval_pb2, wallet_pb2

FILES = (admin_pb2, auth_pb2, ingestion_pb2, quiz_pb2, retrieval_pb2, wallet_pb2)
METHODS = [
    method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods_by_name.values()
]
READING = ("Get", "List", "Watch", "Search", "Estimate", "Check", "Verify", "BatchGet", "Resume", "ExportQuiz")
WITHOUT_REQUEST_ID = {
    "SignIn": "every call opens a session of its own, and tokens are stored nowhere",
    "RefreshSession": "the refresh token itself is the key, with its grace for a lost reply",
    "ReconcileWallets": "it checks; each call is a new look",
}


def changing() -> list[MethodDescriptor]:
    return [method for method in METHODS if not method.name.startswith(READING)]


def fields(message: Descriptor) -> dict[str, FieldDescriptor]:
    found = dict(message.fields_by_name)
    for field in message.fields:
        if field.message_type is not None and field.name == "metadata":
            found |= field.message_type.fields_by_name
    return found


@pytest.mark.parametrize("method", changing(), ids=lambda method: method.name)
def test_whatever_changes_something_takes_a_request_id(method: MethodDescriptor) -> None:
    assert ("request_id" in fields(method.input_type)) is (method.name not in WITHOUT_REQUEST_ID)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_lists_are_paged_alike(method: MethodDescriptor) -> None:
    if "next_page_token" in method.output_type.fields_by_name:
        assert {"page_size", "page_token"} <= set(method.input_type.fields_by_name)
