"""The rule by which a token is believed."""

import base64
import json
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from server.auth import tokens
from server.auth.tokens import Claims, Rule
from server.caller import Role, Tier
from server.refusal import NotSignedIn

NOW = 1_790_000_000
RULE = Rule("bacmr", "bacmr", ("ES256",))
KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC_PEM = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
USER, SESSION = UUID("5f3c2b1a-0d9e-4c7b-8a65-1f2e3d4c5b6a"), UUID(int=2)
PAYLOAD = {
    "iss": "bacmr",
    "aud": "bacmr",
    "sub": str(USER),
    "iat": NOW,
    "exp": NOW + 900,
    "session_id": str(SESSION),
    "app_metadata": {"role": "teacher", "tier": "premium"},
}


def token(payload: dict[str, Any] | None = None, headers: dict[str, Any] | None = None, **changes: Any) -> str:
    claims = {name: value for name, value in {**(payload or PAYLOAD), **changes}.items() if value is not ...}
    return jwt.encode(claims, KEY, "ES256", headers={"kid": "k1", **(headers or {})})


def raw(header: object, payload: object, signature: bytes = b"x" * 64) -> str:
    parts = (json.dumps(header).encode(), json.dumps(payload).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def verified(text: str, now: float = NOW + 1) -> Claims:
    return tokens.verified(text, KEY.public_key(), RULE, now)


def refused(text: str, now: float = NOW + 1) -> bool:
    try:
        tokens.label(text)
        verified(text, now)
    except NotSignedIn as refusal:
        return str(refusal) == NotSignedIn.sentence and not refusal.metadata
    return False


def test_a_token_of_ours_says_who_calls_with_which_rights() -> None:
    assert verified(token()) == Claims("bacmr", USER, Role.TEACHER, Tier.PREMIUM, SESSION, NOW + 900)


def test_what_we_sign_carries_the_claims_rule_and_verifies() -> None:
    claims = {"sub": str(USER), "app_metadata": {"role": "admin", "tier": "free"}}
    signed = tokens.signed(claims, KEY, "k1", RULE, session_id=SESSION, issued_at=NOW, expires_at=NOW + 60)
    assert verified(signed) == Claims("bacmr", USER, Role.ADMIN, Tier.FREE, SESSION, NOW + 60)
    assert tokens.label(signed) == tokens.Label("ES256", "k1", "bacmr")
    assert len(signed) < 600


def test_a_token_ends_on_the_second_it_says() -> None:
    assert verified(token(), NOW + 899.9)
    assert refused(token(), NOW + 900)


def test_a_token_is_not_believed_before_its_time_but_for_clock_skew() -> None:
    assert verified(token(iat=NOW + 6, nbf=NOW + 6), NOW + 1)
    assert refused(token(nbf=NOW + 7), NOW + 1)
    assert refused(token(iat=NOW + 7), NOW + 1)


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "iat", "exp"])
def test_no_required_claim_may_be_missing(claim: str) -> None:
    assert refused(token(**{claim: ...}))


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://elsewhere.example"},
        {"aud": "elsewhere"},
        {"aud": []},
        {"sub": "amina"},
        {"sub": ""},
        {"sub": "{" + str(USER) + "}"},
        {"sub": USER.hex},
        {"sub": str(USER).upper()},
        {"exp": "tomorrow"},
        {"exp": True},
        {"exp": 10**400},
        {"exp": 2**60},
        {"exp": -1},
        {"iat": None},
        {"nbf": "now"},
        {"nbf": None},
    ],
    ids=str,
)
def test_a_claim_that_is_not_what_it_must_be_is_refused(changes: dict[str, Any]) -> None:
    assert refused(token(**changes))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(number: str) -> None:
    text = json.dumps(PAYLOAD).replace(str(NOW + 900), number)
    jws = jwt.api_jws.encode(text.encode(), KEY, "ES256", headers={"kid": "k1"})
    assert refused(jws)


def test_an_unsigned_token_is_refused() -> None:
    assert refused(jwt.encode(PAYLOAD, None, "none"))
    for algorithm in ("none", "None", "NONE", "nOnE", ""):
        assert refused(raw({"alg": algorithm, "typ": "JWT"}, PAYLOAD, b""))


def test_our_public_key_is_no_shared_secret() -> None:
    for secret in (PUBLIC_PEM, PUBLIC_PEM.strip(), json.dumps(tokens.public_jwk(KEY.public_key(), "k1")).encode()):
        header = {"alg": "HS256", "typ": "JWT", "kid": "k1"}
        unsigned = raw(header, PAYLOAD).rpartition(".")[0]
        signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(unsigned.encode(), secret)
        assert refused(raw(header, PAYLOAD, signature))


@pytest.mark.parametrize("algorithm", ["HS256", "ES384", "RS256", "PS256", "EdDSA", "ES256K"])
def test_the_token_does_not_choose_the_algorithm(algorithm: str) -> None:
    head, _, rest = token().partition(".")
    header = json.loads(base64.urlsafe_b64decode(head + "==")) | {"alg": algorithm}
    changed = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
    assert refused(f"{changed}.{rest}")


def test_an_algorithm_outside_the_rule_is_refused_even_when_the_key_fits_it() -> None:
    secret = "a shared secret of more than 32 bytes"
    text = jwt.encode(PAYLOAD, secret, "HS256")
    assert tokens.verified(text, secret, replace(RULE, algorithms=("HS256",)), NOW)
    with pytest.raises(NotSignedIn):
        tokens.verified(text, secret, RULE, NOW)


def test_a_header_that_brings_its_own_key_changes_nothing() -> None:
    thief = ec.generate_private_key(ec.SECP256R1())
    jwk = tokens.public_jwk(thief.public_key(), "k1")
    for header in ({"jwk": jwk}, {"jku": "https://thief.example/keys"}, {"x5u": "https://thief.example/cert"}):
        assert refused(jwt.encode(PAYLOAD, thief, "ES256", headers={"kid": "k1", **header}))
    assert refused(token(headers={"crit": ["exp"], "exp": 1}))


def test_every_tampered_claim_is_noticed() -> None:
    head, _, signature = token().split(".")
    for changes in ({"sub": str(uuid4())}, {"exp": NOW + 10**6}, {"app_metadata": {"role": "admin"}}):
        body = base64.urlsafe_b64encode(json.dumps({**PAYLOAD, **changes}).encode()).decode().rstrip("=")
        assert refused(f"{head}.{body}.{signature}")


def test_rights_come_from_app_metadata_alone() -> None:
    claims = verified(token(app_metadata=..., role="admin", tier="premium", user_metadata={"role": "admin"}))
    assert (claims.role, claims.tier) == (None, None)


@pytest.mark.parametrize(
    "rights", [None, "admin", ["admin"], {"role": ["admin"]}, {"role": "root"}, {"role": "anyone"}]
)
def test_rights_that_we_do_not_know_are_none(rights: object) -> None:
    assert verified(token(app_metadata=rights)).role is None


@pytest.mark.parametrize("label", [{"kid": 7}, {"kid": None}, {"kid": ["k1"]}, {"kid": "k" * 10_000}, {"alg": 5}])
def test_a_label_of_the_wrong_kind_is_refused(label: dict[str, Any]) -> None:
    with pytest.raises(NotSignedIn):
        tokens.label(raw({"alg": "ES256", "kid": "k1", **label}, PAYLOAD))


def test_an_issuer_of_the_wrong_kind_is_refused() -> None:
    for issuer in (5, ["bacmr"], {"bacmr": 1}):
        with pytest.raises(NotSignedIn):
            tokens.label(raw({"alg": "ES256", "kid": "k1"}, {**PAYLOAD, "iss": issuer}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "Bearer x",
        "\x00" * 20,
        "é.é.é",
        "\ud800.a.b",
        raw([], {}),
        raw({"alg": "ES256"}, []),
        raw({"alg": "ES256"}, "text"),
        "eyJhbGciOiJFUzI1NiJ9." + base64.urlsafe_b64encode(b"[" * 5_000).decode() + ".AA",
        base64.urlsafe_b64encode(b'{"a":' * 1_000).decode() + ".e30.AA",
        "x" * 1_000_000,
        "." * 8_000,
        token() + "." + "a" * 8_000,
    ],
    ids=lambda text: text[:12].encode("ascii", "backslashreplace").decode() + f"… {len(text)}",
)
def test_what_is_no_token_is_refused(text: str) -> None:
    assert refused(text)


@given(st.text(alphabet=st.characters(max_codepoint=0x10FFFF), max_size=200))
def test_no_text_makes_the_rule_stumble(text: str) -> None:
    assert refused(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
        lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from([*PAYLOAD, "nbf", "jti"]),
)
def test_no_claim_makes_the_rule_stumble(value: object, claim: str) -> None:
    text = jwt.api_jws.encode(json.dumps({**PAYLOAD, claim: value}).encode(), KEY, "ES256", headers={"kid": "k1"})
    try:
        tokens.label(text)
        assert isinstance(verified(text).user_id, UUID)
    except NotSignedIn:
        pass


def test_another_key_does_not_verify() -> None:
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(NotSignedIn):
        tokens.verified(token(), other, RULE, NOW)


def test_a_short_shared_secret_is_no_key() -> None:
    rule = replace(RULE, algorithms=("HS256",))
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        text = jwt.encode(PAYLOAD, "short", "HS256")
    with pytest.raises(NotSignedIn):
        tokens.verified(text, b"short", rule, NOW)
