"""Top-up callbacks of providers over the real HTTP port: credited once, and refused in words a provider can act on."""

import asyncio
import hmac
import json
import time
from dataclasses import dataclass
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
import pytest_asyncio

from server.database.once import Once
from server.edge.limits import Rates
from server.edge.topups import BODY_BYTES
from server.wallet.credits import CreditService
from server.wallet.topup import SignedJson

SECRETS = {"bankily": b"a secret of bankily and of ours!", "masrvi": b"a secret of masrvi and of ours!!"}


async def unaudited(*_: object) -> None:
    """Record nothing."""


@dataclass
class Provider:
    """A provider that reports payments of one student, who has nothing."""

    http: httpx.AsyncClient
    owner: psycopg.Connection
    student_id: UUID
    name: str = "bankily"

    def payment(self, **change: object) -> dict[str, object]:
        return {"reference": f"BK-{uuid4()}", "user_id": str(self.student_id), "tokens": 700, **change}

    async def report(
        self, payment: object, *, secret: bytes = b"", age_seconds: int = 0, **headers: str
    ) -> httpx.Response:
        content = payment if isinstance(payment, bytes) else json.dumps(payment).encode()
        sent_at = str(int(time.time()) - age_seconds)
        signed = hmac.digest(secret or SECRETS[self.name], f"{sent_at}.".encode() + content, "sha256").hex()
        proof = {"x-bacmr-timestamp": sent_at, "x-bacmr-signature": signed}
        return await self.http.post(f"/topups/{self.name}", content=content, headers=proof | headers)

    def balance(self) -> int:
        row = self.owner.execute("SELECT available_tokens FROM wallet WHERE user_id = %s", [self.student_id]).fetchone()
        assert row is not None
        return row[0]


@pytest_asyncio.fixture
async def provider(serve, serve_http, database, owner, make_user, request):
    desk = CreditService(
        database,
        Once(database),
        audit=unaudited,
        voucher_key=b"k" * 32,
        callbacks={name: SignedJson(name, secret) for name, secret in SECRETS.items()},
    )
    rates = Rates(calls_per_minute=getattr(request, "param", 600))
    port = await serve_http(await serve(), top_ups=desk, rates=rates)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port.port}") as http:
        yield Provider(http, owner, make_user().user_id)


def assert_refused(response: httpx.Response, status: int, reason: str) -> None:
    content = response.json()
    assert (response.status_code, content["reason"]) == (status, reason)
    assert content["request_id"] == response.headers["x-request-id"]
    assert content["message"]


async def test_a_signed_callback_credits(provider):
    response = await provider.report(provider.payment())
    assert (response.status_code, response.json()) == (200, {"credited": True})
    assert provider.balance() == 700


async def test_the_same_callback_ten_times_credits_once(provider):
    payment = provider.payment()
    answers = [(await provider.report(payment)).json()["credited"] for _ in range(10)]
    assert answers == [True] + [False] * 9
    assert provider.balance() == 700


async def test_the_same_callback_ten_times_at_once_credits_once(provider):
    payment = provider.payment()
    answers = await asyncio.gather(*(provider.report(payment) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}
    assert sorted(answer.json()["credited"] for answer in answers) == [False] * 9 + [True]
    assert provider.balance() == 700


async def test_the_ledger_names_the_callback_s_request(provider):
    request_id = str(uuid4())
    payment = provider.payment()
    response = await provider.report(payment, **{"x-request-id": request_id})
    assert response.headers["x-request-id"] == request_id
    entry = "SELECT call_id::text, reason FROM ledger_entry WHERE user_id = %s AND kind = 'top_up'"
    found = provider.owner.execute(entry, [provider.student_id]).fetchall()
    assert found == [(request_id, f"bankily {payment['reference']}")]


@pytest.mark.parametrize("secret", [b"somebody else's secret, as long!", SECRETS["masrvi"]])
async def test_another_one_s_signature_is_refused(provider, secret):
    assert_refused(await provider.report(provider.payment(), secret=secret), 403, "NOT_SIGNED_IN")
    assert provider.balance() == 0


async def test_no_signature_is_refused(provider):
    response = await provider.http.post("/topups/bankily", json=provider.payment())
    assert_refused(response, 403, "NOT_SIGNED_IN")


@pytest.mark.parametrize("age_seconds", [-400, 400])
async def test_a_callback_of_another_time_is_refused(provider, age_seconds):
    assert_refused(await provider.report(provider.payment(), age_seconds=age_seconds), 403, "NOT_SIGNED_IN")
    assert provider.balance() == 0


async def test_an_unknown_user_is_refused(provider):
    assert_refused(await provider.report(provider.payment(user_id=str(uuid4()))), 404, "NOT_FOUND")


async def test_an_unknown_provider_is_refused(provider):
    provider.name = "nobody"
    assert_refused(await provider.report(provider.payment(), secret=b"x"), 404, "NOT_FOUND")


@pytest.mark.parametrize("change", [{"tokens": 701}, {"user_id": None}], ids=["amount", "user"])
async def test_another_payment_under_the_same_reference_is_refused(provider, make_user, change):
    payment = provider.payment()
    await provider.report(payment)
    if "user_id" in change:
        change = {"user_id": str(make_user().user_id)}
    assert_refused(await provider.report(payment | change), 409, "REQUEST_ID_REUSED")
    assert provider.balance() == 700


async def test_what_is_wrong_in_a_callback_is_named(provider):
    response = await provider.report(provider.payment(tokens=-5, reference="B\0"))
    assert_refused(response, 400, "INVALID_REQUEST")
    assert [violation["field"] for violation in response.json()["violations"]] == ["reference", "tokens"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
async def test_a_body_that_is_no_payment_is_refused(provider, content):
    assert_refused(await provider.report(content), 400, "INVALID_REQUEST")


async def test_a_large_body_is_refused_before_it_is_read_to_its_end(provider):
    assert_refused(await provider.report(b"x" * (BODY_BYTES + 1)), 400, "INVALID_REQUEST")


@pytest.mark.parametrize("provider", [2], indirect=True)
async def test_callbacks_are_limited_by_address(provider):
    statuses = [(await provider.report(provider.payment())).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    refused = await provider.report(provider.payment())
    assert_refused(refused, 429, "RATE_LIMITED")
    assert int(refused.headers["retry-after"]) > 0


async def test_a_bug_is_told_without_what_it_was_and_under_its_request_id(serve, serve_http):
    class Broken:
        async def accept_callback(self, *_: object, **__: object) -> None:
            raise RuntimeError("the inside")

    port = await serve_http(await serve(), top_ups=Broken())
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port.port}") as http:
        response = await http.post("/topups/bankily", json={})
    assert_refused(response, 500, "INTERNAL")
    assert "inside" not in response.text


async def test_only_a_post_is_a_callback(provider):
    assert (await provider.http.get("/topups/bankily")).status_code == 405
