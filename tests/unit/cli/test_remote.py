"""Commands that talk to a server say so when there is none, instead of waiting for one."""

import socket

import pytest

from server.app.failure import StartupError
from server.cli import remote
from server.cli.remote import Login, signed_in


async def test_where_no_server_answers_a_command_ends_and_names_the_address(monkeypatch):
    monkeypatch.setattr(remote, "CONNECT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        target = f"127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(StartupError, match=target):
        async with signed_in(Login(target, "someone@example.org", "a password")):
            pass
