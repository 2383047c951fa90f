"""Promises of the systemd units."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    return root / "deploy" / "systemd"


def unit(file: Path) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",), strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(file)
    return dict(parser["Service"])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_units(folder: Path, tmp_path: Path) -> None:
    for file in folder.glob("*.service"):
        # The programs are where an installation has them, not here.
        text = file.read_text()
        for program in ("bacmr", "envoy"):
            text = text.replace(f"/opt/bacmr/.venv/bin/{program} ", "/bin/true ")
        (tmp_path / file.name).write_text(text)
    checked = subprocess.run(
        ["systemd-analyze", "verify", *tmp_path.glob("*.service")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_units_run_commands_that_exist(folder: Path, root: Path) -> None:
    source = (root / "server/cli/main.py").read_text()
    commands = {
        line.split("bin/bacmr ")[1].strip()
        for file in (*folder.glob("*.service"), root / "deploy/supervisord.conf")
        for line in file.read_text().splitlines()
        if "bin/bacmr " in line
    }
    assert commands == {"serve", "worker", "migrate"}
    assert all(f"def {command}(" in source for command in commands)


def test_every_setting_exists(folder: Path, setting_names: frozenset[str]) -> None:
    lines = (folder / "bacmr.env").read_text().splitlines()
    given = {line.split("=")[0] for line in lines if line and not line.startswith("#")}
    assert given <= setting_names


@pytest.mark.parametrize("name", ["bacmr-server", "bacmr-worker", "bacmr-migrate", "bacmr-envoy"])
def test_units_run_without_rights(name: str, folder: Path) -> None:
    service = unit(folder / f"{name}.service")
    assert service.get("User") == "bacmr" or service.get("DynamicUser") == "yes"
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"


@pytest.mark.parametrize("name", ["bacmr-server", "bacmr-worker"])
def test_units_start_again_after_a_crash_and_get_time_to_drain(name: str, folder: Path) -> None:
    service = unit(folder / f"{name}.service")
    assert (service["Restart"], service["KillMode"], service["TimeoutStopSec"]) == ("always", "mixed", "60")


def test_a_reload_asks_the_server_for_a_rolling_restart(folder: Path) -> None:
    assert unit(folder / "bacmr-server.service")["ExecReload"] == "/bin/kill -HUP $MAINPID"


def test_logs_are_kept_for_thirty_days(folder: Path) -> None:
    assert "MaxRetentionSec=30day" in (folder / "journald@bacmr.conf").read_text()
    assert all("LogNamespace=bacmr" in file.read_text() for file in folder.glob("*.service"))
