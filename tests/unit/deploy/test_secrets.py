"""No secret is in what is handed out with the code."""

import re
from pathlib import Path

import pytest

SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}|\bsk-[\w-]{20,}|\bAKIA[0-9A-Z]{16}\b|\beyJ[\w-]{20,}\.eyJ[\w-]{20,}"
)
HANDED_OUT = (
    "server",
    "migrations",
    "clients",
    "deploy",
    "docs",
    "samples",
    "evals",
    "benchmarks",
    "scripts",
    "protos",
)
MADE_ELSEWHERE = ("node_modules", "__pycache__", "secrets")


@pytest.mark.parametrize("folder", HANDED_OUT)
def test_no_file_holds_a_key_or_a_token(root: Path, folder: str) -> None:
    files = [
        file
        for file in (root / folder).rglob("*")
        if file.is_file() and not set(MADE_ELSEWHERE) & set(file.relative_to(root).parts)
    ]
    assert files
    found = [file for file in files if SECRET.search(file.read_text(encoding="utf-8", errors="replace"))]
    assert found == []


def test_files_of_settings_with_secrets_are_never_committed(root: Path) -> None:
    assert {".env", "*.pem"} <= set((root / ".gitignore").read_text().splitlines())


@pytest.mark.parametrize(
    "secret",
    [
        "-----BEGIN EC PRIVATE KEY-----\n" + "A" * 64,
        "OPENAI_API_KEY=sk-proj-" + "a1" * 12,
        "AKIA" + "A1" * 8,
        "eyJ" + "a" * 24 + ".eyJ" + "b" * 24,
    ],
)
def test_a_secret_would_be_noticed(secret: str) -> None:
    assert SECRET.search(secret)
