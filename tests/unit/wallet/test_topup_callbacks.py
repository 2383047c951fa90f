"""Provider callbacks: who signed them and what they say."""

import hmac
import json
from uuid import UUID

import pytest

from server.refusal import Invalid, NotSignedIn
from server.wallet.topup import Payment, SignedJson

SECRET = b"shared with the provider"
USER = UUID(int=1)
SENT_AT = "1800000000"
NOW = 1_800_000_000.5
reader = SignedJson("bankily", SECRET)


def body(**change):
    return json.dumps({"reference": "BK-1", "user_id": str(USER), "tokens": 500, **change}).encode()


def signature(content, secret=SECRET, sent_at=SENT_AT):
    return hmac.digest(secret, f"{sent_at}.".encode() + content, "sha256").hex()


def read(content, signed, sent_at=SENT_AT, now=NOW):
    return reader.read(content, signed, sent_at, now)


def test_a_signed_callback_is_a_payment():
    assert read(body(), signature(body())) == Payment("bankily", "BK-1", USER, 500)


def test_the_signature_may_be_in_capitals():
    assert read(body(), signature(body()).upper()).tokens == 500


@pytest.mark.parametrize("wrong", ["", "00", signature(body(), b"another secret"), "é"])
def test_a_wrong_signature_is_nobody(wrong):
    with pytest.raises(NotSignedIn):
        read(body(), wrong)


def test_a_changed_body_is_nobody():
    with pytest.raises(NotSignedIn):
        read(body(tokens=5_000), signature(body()))


def test_a_changed_time_is_nobody():
    with pytest.raises(NotSignedIn):
        read(body(), signature(body()), sent_at="1800000001")


@pytest.mark.parametrize("away_seconds", [-299, 299])
def test_a_callback_of_the_last_minutes_is_heard(away_seconds):
    assert read(body(), signature(body()), now=NOW + away_seconds).tokens == 500


@pytest.mark.parametrize("away_seconds", [-301, 301])
def test_a_callback_of_another_time_is_not_heard(away_seconds):
    with pytest.raises(NotSignedIn, match="more than 300 s"):
        read(body(), signature(body()), now=NOW + away_seconds)


@pytest.mark.parametrize("sent_at", ["", "now", "-1", "1e9", "١٨٠٠٠٠٠٠٠٠", "9" * 400])
def test_a_time_that_is_no_number_of_seconds_is_not_heard(sent_at):
    with pytest.raises(NotSignedIn):
        read(body(), signature(body(), sent_at=sent_at), sent_at=sent_at)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"tokens": 0}, "tokens"),
        ({"tokens": -5}, "tokens"),
        ({"tokens": 2_000_000_000}, "tokens"),
        ({"reference": ""}, "reference"),
        ({"reference": "x" * 201}, "reference"),
        ({"reference": "BK\0"}, "reference"),
        ({"user_id": "nobody"}, "user_id"),
    ],
)
def test_a_signed_callback_with_wrong_content_names_the_field(change, field):
    content = body(**change)
    with pytest.raises(Invalid) as refused:
        read(content, signature(content))
    assert [violation.field for violation in refused.value.violations] == [field]


def test_every_callback_about_a_payment_is_the_same_request():
    payment = Payment("bankily", "BK-1", USER, 500)
    assert payment.request_id == Payment("bankily", "BK-1", UUID(int=1), 7).request_id
    assert payment.request_id != Payment("masrvi", "BK-1", USER, 500).request_id


@pytest.mark.parametrize(("name", "secret"), [("", b"x"), ("Bank ily", b"x"), ("bankily", b"")])
def test_a_provider_without_a_name_or_secret_is_not_set_up(name, secret):
    with pytest.raises(ValueError, match="provider"):
        SignedJson(name, secret)
