"""Refusals as gRPC statuses."""

from uuid import uuid4

import grpc
import pytest
from google.rpc import error_details_pb2

from bacmr.v1 import errors_pb2
from server import refusal
from server.edge import status
from server.refusal import Kind, Refusal, Violation

REFUSALS = [kind for kind in vars(refusal).values() if isinstance(kind, type) and issubclass(kind, Refusal)]
REFUSALS.remove(Refusal)
NAMES = set(errors_pb2.ErrorReason.DESCRIPTOR.values_by_name)


def details(error: Refusal, request_id=None) -> dict[str, object]:
    found = {}
    for packed in status.status_of(error, request_id or uuid4()).details:
        name = packed.TypeName().rpartition(".")[2]
        assert name not in found
        found[name] = getattr(error_details_pb2, name)()
        packed.Unpack(found[name])
    return found


def test_every_kind_has_a_code_of_its_own():
    assert set(status.CODES) == set(Kind)
    assert len(set(status.CODES.values())) == len(Kind)
    assert grpc.StatusCode.INTERNAL not in status.CODES.values()


@pytest.mark.parametrize("kind", REFUSALS, ids=lambda kind: kind.__name__)
def test_every_refusal_says_why_by_a_reason_of_the_contract(kind):
    request_id = uuid4()
    found = details(kind(), request_id)
    assert found["ErrorInfo"].domain == "bacmr"
    assert f"ERROR_REASON_{found['ErrorInfo'].reason}" in NAMES
    assert found["RequestInfo"].request_id == str(request_id)


def test_every_reason_of_the_contract_is_used():
    used = {kind.reason for kind in REFUSALS} | {status.INTERNAL_REASON, "UNSPECIFIED"}
    assert {name.removeprefix("ERROR_REASON_") for name in NAMES} == used


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (refusal.RateLimited(retry_after_seconds=12.5), 12.5),
        (refusal.StoreUnavailable(), 1.0),
        (refusal.Conflict(), 0.1),
    ],
)
def test_a_refusal_worth_a_retry_says_when(error, seconds):
    delay = details(error)["RetryInfo"].retry_delay
    assert delay.seconds + delay.nanos / 1e9 == seconds


@pytest.mark.parametrize("error", [refusal.NotFound(), refusal.Invalid(), refusal.NotSignedIn(), refusal.Forbidden()])
def test_a_refusal_that_will_stay_does_not_invite_a_retry(error):
    assert "RetryInfo" not in details(error)


def test_a_limit_says_whose_it_is():
    (violation,) = details(refusal.RateLimited(scope="user"))["QuotaFailure"].violations
    assert (violation.subject, violation.description) == ("user", refusal.RateLimited.sentence)


def test_violations_become_field_violations():
    error = refusal.Invalid(violations=[Violation("a.b[2]", "too short", "string.min_len"), Violation("c", "odd", "")])
    found = details(error)["BadRequest"].field_violations
    assert [(v.field, v.description, v.reason) for v in found] == [
        ("a.b[2]", "too short", "STRING_MIN_LEN"),
        ("c", "odd", ""),
    ]
