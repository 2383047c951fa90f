"""`bacmr demo`, the first command of everybody: whole, and on embedded stores whatever the settings name."""

import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import command, settings

pytestmark = pytest.mark.slow


def test_the_demo_runs_to_its_end_in_the_folder_it_is_given_and_touches_no_other_store(folder: Path) -> None:
    nowhere = {
        "BACMR_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/production",
        "BACMR_MILVUS_URI": "http://127.0.0.1:1",
        "BACMR_BLOB_URL": f"file://{folder}/production",
    }
    ended = subprocess.run(
        command("demo"), env=settings(folder, **nowhere), capture_output=True, text=True, timeout=180, cwd=folder
    )
    assert ended.returncode == 0, ended.stderr
    assert "already in the library" not in ended.stdout
    assert "The ledger verifies." in ended.stdout
    assert (folder / "data" / "demo" / "postgres").is_dir()
    assert not (folder / "production").exists()
