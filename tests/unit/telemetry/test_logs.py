"""Log lines: JSON with the same fields from every logger, and without secrets."""

import io
import json
import logging
from uuid import uuid4

import pytest
import structlog

from server.caller import Caller, acting_as
from server.telemetry import logs

REFRESH_TOKEN = "Zk3vQ9xT1mB7wR5yL2nH8cJ4dG6sA0pKfUeXiOqVtN_-"


@pytest.fixture
def out():
    before, handlers, level = structlog.get_config(), logging.getLogger().handlers[:], logging.getLogger().level
    stream = io.StringIO()
    logs.configure("info", stream)
    yield stream
    logs.configure("error", io.StringIO())
    structlog.configure(**before)
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)


def only(out: io.StringIO) -> dict[str, object]:
    (line,) = out.getvalue().splitlines()
    return json.loads(line)


def test_our_line_says_when_how_bad_who_what_and_for_which_request(out):
    caller = Caller(request_id=uuid4())
    with acting_as(caller):
        structlog.get_logger("server.wallet").warning("hold_expired", tokens=40)
    line = only(out)
    assert line["timestamp"].endswith("Z")
    assert (line["level"], line["logger"], line["message"]) == ("warning", "server.wallet", "hold_expired")
    assert (line["request_id"], line["tokens"]) == (str(caller.request_id), 40)


def test_a_librarys_line_looks_the_same(out):
    caller = Caller(request_id=uuid4())
    with acting_as(caller):
        logging.getLogger("some.library").warning("lost %s", "connection")
    line = only(out)
    assert (line["level"], line["logger"], line["message"]) == ("warning", "some.library", "lost connection")
    assert line["request_id"] == str(caller.request_id)


def test_an_exception_comes_with_its_trace_on_the_same_line(out):
    try:
        raise KeyError("x")
    except KeyError:
        structlog.get_logger("a").exception("failed")
    assert "KeyError: 'x'" in str(only(out)["exception"])


def test_lines_below_the_level_are_dropped(out):
    structlog.get_logger("a").debug("noise")
    logging.getLogger("b").info("noise")
    assert out.getvalue() == ""


@pytest.mark.parametrize(
    "name",
    ["password", "authorization", "access_token", "refresh_token", "api_key", "client_secret", "PRIVATE_KEY", "cookie"],
)
def test_values_of_secret_names_are_never_written(out, name):
    structlog.get_logger("a").info("event", **{name: "hunter2"}, nested={"deep": [{name: "hunter2"}]})
    assert "hunter2" not in out.getvalue()


@pytest.mark.parametrize(
    "secret",
    [
        "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "sk-proj-abcdefghijklmnop1234",
        "Bearer abc.def",
        "AKIAIOSFODNN7EXAMPLE",
        REFRESH_TOKEN,
        "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----",
    ],
    ids=["jwt", "model key", "bearer", "aws", "opaque token", "pem"],
)
def test_values_that_look_like_secrets_are_never_written(out, secret):
    structlog.get_logger("a").info("event", detail=f"before {secret} after", many=[secret])
    assert secret not in out.getvalue()
    assert secret[10:] not in out.getvalue()
    assert "before" in out.getvalue()


def test_a_password_in_an_address_is_not_written(out):
    structlog.get_logger("a").info("event", url="postgresql://bacmr:hunter2@db:5432/bacmr")
    line = only(out)
    assert line["url"] == "postgresql://[redacted]@db:5432/bacmr"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("charged_tokens", 40),
        ("chunk_id", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
        ("request", "6c1b4f0e-7f0e-4a07-9f5c-0d6f5a8d8c11"),
        ("method", "/bacmr.v1.RetrievalService/ListConversations"),
        ("text", "الدالة العددية والمتتاليات"),
    ],
)
def test_ordinary_values_are_kept(out, name, value):
    structlog.get_logger("a").info("event", **{name: value})
    assert only(out)[name] == value
