"""Promises of the alert rules."""

import ast
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from croniter import croniter

promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed")

OWN_RECORDS = {"bacmr:job_limit:seconds", "bacmr:job_last_success:seconds"}
LEAST_TICKS = 2
"""A job is not overdue before it had this many chances."""


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    return root / "deploy" / "prometheus"


@pytest.fixture(scope="module")
def rules(folder: Path) -> list[dict[str, Any]]:
    groups = yaml.safe_load((folder / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="module")
def alerts(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [rule for rule in rules if "alert" in rule]


@pytest.fixture(scope="module")
def limits(rules: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {rule["labels"]["job"]: rule for rule in rules if rule.get("record") == "bacmr:job_limit:seconds"}


def run_promtool(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["promtool", *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


@promtool
def test_prometheus_accepts_its_configuration_and_the_rules(folder: Path) -> None:
    assert not run_promtool(folder, "check", "config", "prometheus.yml")


@promtool
def test_every_alert_fires_when_it_should_and_stays_silent_when_not(folder: Path) -> None:
    assert not run_promtool(folder, "test", "rules", "rules_test.yml")


def test_every_alert_is_tried_both_ways(folder: Path, alerts: list[dict[str, Any]]) -> None:
    tests = yaml.safe_load((folder / "rules_test.yml").read_text())["tests"]
    tried = [(case["alertname"], bool(case["exp_alerts"])) for test in tests for case in test["alert_rule_test"]]
    assert set(tried) == {(alert["alert"], fires) for alert in alerts for fires in (True, False)}


def test_rules_read_only_metrics_that_the_server_exports(
    rules: list[dict[str, Any]], load_script: Callable[[str], ModuleType]
) -> None:
    dashboard = load_script("deploy/grafana/make_dashboard.py")
    read = set().union(*(dashboard.metric_names(rule["expr"]) for rule in rules))
    assert read <= dashboard.known_names().keys() | OWN_RECORDS | {"up"}


def test_every_alert_says_how_bad_it_is_what_to_do_and_where_that_is_told(
    alerts: list[dict[str, Any]], limits: dict[str, dict[str, Any]], root: Path
) -> None:
    for alert in alerts:
        inherits = "bacmr:job_limit:seconds" in alert["expr"]
        severities = (
            {limit["labels"]["severity"] for limit in limits.values()} if inherits else {alert["labels"]["severity"]}
        )
        assert severities <= {"critical", "warning"}, alert["alert"]
        notes = alert["annotations"]
        assert notes["summary"], alert["alert"]
        assert notes["action"], alert["alert"]
        page, _, anchor = notes["recipe"].partition("#")
        assert (root / page).is_file(), f"{alert['alert']}: {page} does not exist"
        assert not anchor or anchor in anchors(root / page), f"{alert['alert']}: no #{anchor} in {page}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_every_scheduled_job_has_a_limit_that_leaves_it_two_chances(
    limits: dict[str, dict[str, Any]], root: Path
) -> None:
    every = scheduled_jobs(root)
    assert limits.keys() == every.keys()
    for job, seconds in every.items():
        # A daily job may be an hour late, but not miss a day.
        needed = seconds + 3_600 if seconds >= 86_400 else LEAST_TICKS * seconds
        assert float(limits[job]["expr"]) >= needed, job


def scheduled_jobs(root: Path) -> dict[str, float]:
    """Return seconds between two runs by job, from the source: building the schedule would need every store."""
    found: dict[str, float] = {"recover_stalled_jobs": 30.0}
    for node in ast.walk(ast.parse((root / "server/app/schedule.py").read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Periodic":
            name, every = (ast.literal_eval(argument) for argument in node.args[:2])
            found[name] = cron_seconds(every) if isinstance(every, str) else float(every)
    return found


def cron_seconds(line: str) -> float:
    ticks = croniter(line, 0.0)
    return -(ticks.get_next() - ticks.get_next())


def test_prometheus_scrapes_every_15_seconds_and_keeps_our_labels(folder: Path) -> None:
    config = yaml.safe_load((folder / "prometheus.yml").read_text())
    scrape = next(job for job in config["scrape_configs"] if job["job_name"] == "bacmr")
    assert config["global"]["scrape_interval"] == "15s"
    assert (scrape["metrics_path"], scrape["honor_labels"]) == ("/metrics/prometheus", True)


def test_critical_alerts_page_and_the_others_reach_a_channel(folder: Path) -> None:
    config = yaml.safe_load((folder / "alertmanager.yml").read_text())
    receivers = {receiver["name"]: receiver.keys() for receiver in config["receivers"]}
    paging = next(route for route in config["route"]["routes"] if 'severity="critical"' in route["matchers"])
    assert "pagerduty_configs" in receivers[paging["receiver"]]
    assert receivers[config["route"]["receiver"]] >= {"slack_configs", "email_configs"}


def test_alertmanager_holds_no_secret(folder: Path) -> None:
    keys = set(
        re.findall(r"^\s*-?\s*(\w*(?:password|key|api_url)\w*):", (folder / "alertmanager.yml").read_text(), re.M)
    )
    assert keys
    assert all(key.endswith("_file") for key in keys)
