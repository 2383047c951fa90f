"""A provider of mobile money reports a payment to a running server, by the very lines of the recipe."""

import asyncio
import os
import re
import secrets
import shutil
import subprocess

import pytest

from bacmr.client import BacmrClient
from bacmr.v1 import auth_pb2, wallet_pb2
from tests.e2e.conftest import ROOT, start

RECIPE = ROOT / "docs/recipes/top-ups.md"


def run(script: str, secret: str) -> str:
    environment = {**os.environ, "SECRET": secret}
    return subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=30).stdout


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("openssl")), reason="the recipe needs curl and openssl")
async def test_the_recipe_s_callback_credits_once(folder):
    secret = secrets.token_hex(32)
    server = start(folder, BACMR_TOP_UP_SECRETS=f'{{"bankily": "{secret}"}}')
    try:
        async with BacmrClient(server.target) as student:
            await student.sign_up("student@example.org", "a long enough password")
            user = (await student.auth.GetMe(auth_pb2.GetMeRequest())).user
            before = await student.wallet.GetBalance(wallet_pb2.GetBalanceRequest())
            [lines] = re.findall(r"```bash\n(body=.*?)```", RECIPE.read_text(), flags=re.DOTALL)
            script = lines.replace('"user_id": "…"', f'"user_id": "{user.id}"').replace("127.0.0.1:8080", server.http)
            told = [await asyncio.to_thread(run, script, secret) for _ in range(2)]
            after = await student.wallet.GetBalance(wallet_pb2.GetBalanceRequest())
    finally:
        server.stop()
    assert told == ['{"credited":true}', '{"credited":false}']
    assert after.available_tokens - before.available_tokens == 50_000
