"""`bacmr keys …`: the signing keys of access tokens, beside running servers on the same folder, or without one."""

import sys
from datetime import UTC, datetime
from time import time

import typer
from rich.console import Console

from server.app.startup import clearly
from server.app.terms import auth_terms
from server.auth.keyring import RELOAD_SECONDS, Keyring, SigningKey
from server.config import load
from server.telemetry import logs

console = Console(highlight=False, soft_wrap=True)
keys = typer.Typer(help="The signing keys of access tokens.", no_args_is_help=True)


@keys.command("list")
def list_keys() -> None:
    """Show each key, newest first: which one signs, and how long the others verify."""
    with clearly():
        found = _keyring().signing_keys()
    for key in reversed(found):
        console.print(f"{key.key_id}  {_state(key)}")


@keys.command()
def rotate() -> None:
    """Add a key that signs from now on; tokens of the others stay valid until they expire."""
    with clearly():
        key_id = _keyring().rotate()
    console.print(f"{key_id}  signs; running servers take it up within {RELOAD_SECONDS:.0f} seconds")


def _keyring() -> Keyring:
    logs.configure("warning", sys.stderr)
    terms = auth_terms(load())
    return Keyring(terms.keys_dir, terms.access_ttl_seconds)


def _state(key: SigningKey) -> str:
    if key.verifies_until is None:
        return "signs"
    until = f"{datetime.fromtimestamp(key.verifies_until, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return f"verifies until {until}" if key.verifies_until > time() else f"ended {until}; its file may go"
