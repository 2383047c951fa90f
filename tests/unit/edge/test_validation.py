"""The contract's rules on fields."""

from uuid import uuid4

import pytest

from bacmr.v1 import admin_pb2, auth_pb2, retrieval_pb2, wallet_pb2
from server.edge.validation import Reader, Validation
from server.refusal import Invalid, Unreadable


def reader(message_type) -> Reader:
    return Validation().reader(message_type)


def check(message) -> None:
    reader(type(message)).check(message, message.SerializeToString())


def test_a_message_that_keeps_its_rules_passes():
    check(retrieval_pb2.AskRequest(question="Qu'est-ce qu'une dérivée ?", request_id=str(uuid4())))


def test_every_broken_rule_is_named_with_its_field():
    with pytest.raises(Invalid) as refused:
        check(retrieval_pb2.AskRequest(question="", conversation_id="x", request_id="y"))
    assert {(v.field, v.rule) for v in refused.value.violations} >= {
        ("question", "string.min_len"),
        ("conversation_id", "string.uuid"),
        ("request_id", "string.uuid"),
    }


def test_a_field_of_a_nested_message_is_named_by_its_path():
    request = retrieval_pb2.AskRequest(question="q", request_id=str(uuid4()))
    request.filters.namespace = "x" * 200
    with pytest.raises(Invalid) as refused:
        check(request)
    assert "filters.namespace" in {violation.field for violation in refused.value.violations}


def test_a_rule_about_the_whole_message_is_enforced():
    with pytest.raises(Invalid) as refused:
        check(auth_pb2.SignInRequest(password="secret"))
    assert "sign_in.one_name" in {violation.rule for violation in refused.value.violations}


@pytest.mark.parametrize("raw", [b"\xff", b"\x0a\x05ab", b"\x0a\x02\xff\xfe", b"\x0b" * 500])
def test_bytes_that_are_no_message_are_unreadable(raw):
    with pytest.raises(Unreadable):
        reader(wallet_pb2.GetBalanceRequest).parse(raw)


def test_a_message_that_broke_a_rule_breaks_it_again():
    ours, bad = reader(wallet_pb2.GetBalanceRequest), wallet_pb2.GetBalanceRequest(user_id="x")
    for _ in range(2):
        with pytest.raises(Invalid):
            ours.check(bad, bad.SerializeToString())


def test_messages_with_secrets_are_not_kept():
    ours = reader(auth_pb2.SignInRequest)
    ours.check(request := auth_pb2.SignInRequest(email="a@b.mr", password="hunter2"), request.SerializeToString())
    assert "hunter2" not in repr(vars(ours))


def test_what_is_kept_is_bounded():
    ours = reader(wallet_pb2.GetBalanceRequest)
    for _ in range(3_000):
        request = wallet_pb2.GetBalanceRequest(user_id=str(uuid4()))
        ours.check(request, request.SerializeToString())
    assert len(ours._passed) <= 1_024


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (retrieval_pb2.AskRequest(question=" ", request_id=str(uuid4())), "must not be blank"),
        (admin_pb2.UpdateUserRoleRequest(user_id=str(uuid4()), request_id=str(uuid4())), "must be set, and not to 0"),
    ],
)
def test_a_rule_is_told_in_words_and_not_in_its_notation(message, said):
    with pytest.raises(Invalid) as refused:
        check(message)
    assert [violation.description for violation in refused.value.violations] == [said]
