"""`bacmr admin …` as an operator types it."""

import re
import subprocess
from contextlib import suppress
from uuid import uuid4

import grpc
import pytest
import pytest_asyncio

from bacmr.client import BacmrClient
from bacmr.v1 import retrieval_pb2, wallet_pb2
from tests.e2e.conftest import OPERATOR, Server, command, settings


@pytest_asyncio.fixture(scope="module")
async def student(server: Server):
    async with BacmrClient(server.target) as client:
        await client.sign_up(f"{uuid4()}@example.org", "a long enough password", display_name="مريم")
        yield client


def admin(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    login = {"BACMR_TARGET": server.target, "BACMR_EMAIL": OPERATOR, "BACMR_PASSWORD": server.password}
    environment = settings(server.folder, **login, COLUMNS="80")
    return subprocess.run(
        command("admin", *words), env=environment, capture_output=True, text=True, timeout=60, cwd=server.folder
    )


def address(client: BacmrClient) -> str:
    assert client.session is not None
    return client.session.user.email


async def test_a_person_is_found_and_given_a_role_by_address(server: Server, student: BacmrClient):
    changed = admin(server, "role", address(student), "teacher")
    found = admin(server, "users", address(student), "--role", "teacher")
    assert changed.returncode == found.returncode == 0, changed.stderr + found.stderr
    assert "مريم" in found.stdout
    assert student.session is not None
    assert student.session.user.id in found.stdout
    assert address(student) in found.stdout
    assert "teacher" in found.stdout


async def test_a_balance_is_corrected_and_a_voucher_redeemed(server: Server, student: BacmrClient):
    before = (await student.wallet.GetBalance(wallet_pb2.GetBalanceRequest())).available_tokens
    corrected = admin(server, "adjust", address(student), "250", "--reason", "a lost payment")
    made = admin(server, "vouchers", "1", "100")
    redeemed = await student.wallet.RedeemVoucher(
        wallet_pb2.RedeemVoucherRequest(code=made.stdout.strip(), request_id=str(uuid4()))
    )
    assert str(before + 250) in corrected.stdout
    assert redeemed.balance_tokens == before + 350


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("status",), r"serving[\s\S]*postgresql\s+yes[\s\S]*expire_reservations"),
        (("audit",), r"UpdateUserRole"),
        (("operations",), r"^$"),
    ],
)
async def test_a_look_at_the_server(server: Server, student: BacmrClient, words: tuple[str, ...], said: str):
    admin(server, "role", address(student), "teacher")
    looked = admin(server, *words)
    assert looked.returncode == 0, looked.stderr
    assert re.search(said, looked.stdout)


async def test_a_trace_tells_when_each_step_began_and_how_long_it_took(server: Server, student: BacmrClient):
    asked = str(uuid4())
    with suppress(grpc.aio.AioRpcError):
        async for _ in student.ask("Que dit Newton ?", request=retrieval_pb2.AskRequest(request_id=asked)):
            pass
    told = admin(server, "trace", asked)
    assert told.returncode == 0, told.stderr
    assert re.search(r"price +\+\d+ ms, \d+ ms +\{", told.stdout)


async def test_what_is_refused_is_one_clear_line(server: Server, student: BacmrClient):
    unknown = admin(server, "trace", str(uuid4()))
    nobody = admin(server, "disable", "nobody@example.org")
    assert (unknown.returncode, len(unknown.stderr.splitlines())) == (2, 1)
    assert "NOT_FOUND" in unknown.stderr
    assert nobody.returncode == 2
    assert "no account" in nobody.stderr
