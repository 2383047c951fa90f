"""Promises of the documentation: pages made from code are current, and what pages name exists."""

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest
import yaml

import server.retrieval.usage as usage
from bacmr.v1 import admin_pb2, auth_pb2, ingestion_pb2, quiz_pb2, retrieval_pb2, wallet_pb2
from server.app.models import configured_providers
from server.config import load

MODULES = (admin_pb2, auth_pb2, ingestion_pb2, quiz_pb2, retrieval_pb2, wallet_pb2)
CLIENT_VARIABLES = {"BACMR_TARGET", "BACMR_EMAIL", "BACMR_PASSWORD", "BACMR_TEST_POSTGRES"}


@pytest.fixture(scope="module")
def pages(root: Path) -> dict[Path, str]:
    """Every page with its text."""
    files = (*(root / "docs").rglob("*.md"), root / "deploy/kubernetes/README.md")
    return {file: file.read_text(encoding="utf-8") for file in files}


@pytest.fixture(scope="module")
def everything(pages: dict[Path, str]) -> str:
    """All pages as one text."""
    return "\n".join(pages.values())


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_tables_of_settings_and_metrics_are_current(root: Path, load_script: Callable[[str], ModuleType]) -> None:
    text = (root / "docs/operations.md").read_text(encoding="utf-8")
    assert load_script("docs/make_settings.py").page(text) == text


def test_the_pages_of_the_contract_are_current(load_script: Callable[[str], ModuleType]) -> None:
    for file, text in load_script("docs/make_api.py").pages().items():
        assert file.read_text(encoding="utf-8") == text, f"run docs/make_api.py for {file.name}"


def test_links_lead_somewhere(pages: dict[Path, str]) -> None:
    for file, text in pages.items():
        for target in re.findall(r"\]\(([^)#\s]*#?[^)\s]*)\)", text):
            if target.startswith(("http:", "https:", "mailto:")):
                continue
            page, _, anchor = target.partition("#")
            other = (file.parent / page).resolve() if page else file
            assert other.exists(), f"{file.name}: {target}"
            assert not anchor or unquote(anchor) in anchors(other.read_text(encoding="utf-8")), f"{file.name}: {target}"


def test_every_page_is_in_the_navigation(root: Path) -> None:
    navigation = yaml.safe_load((root / "mkdocs.yml").read_text())["nav"]
    listed = [page for section in navigation for part in section.values() for page in part]
    assert sorted(listed) == sorted(str(file.relative_to(root / "docs")) for file in (root / "docs").rglob("*.md"))


def test_every_table_of_the_database_is_described(root: Path) -> None:
    text = (root / "docs/data-model.md").read_text(encoding="utf-8")
    migrations = "\n".join(file.read_text() for file in (root / "migrations/sql").glob("*.sql"))
    made = set(re.findall(r"^CREATE TABLE (\w+)", migrations, flags=re.MULTILINE))
    assert made
    assert {table for table in made if f"`{table}`" not in text and not table.startswith("procrastinate_")} == set()


def test_every_room_is_described(root: Path) -> None:
    text = (root / "docs/architecture.md").read_text(encoding="utf-8")
    rooms = {folder.name for folder in (root / "server").iterdir() if (folder / "__init__.py").exists()}
    assert {room for room in rooms if not re.search(rf"`(server/)?{room}`", text)} == set()


def test_commands_of_the_page_are_the_commands_there_are(root: Path) -> None:
    source = (root / "server/cli/main.py").read_text()
    commands = {
        node.name.rstrip("_")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
        and any("command" in ast.unparse(decorator) for decorator in node.decorator_list)
    }
    commands |= set(re.findall(r'add_typer\(\w+, name="(\w+)"\)', source))
    text = (root / "docs/operations.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `bacmr (\w+)", text, flags=re.MULTILINE)) == commands


def test_no_page_names_a_command_that_does_not_exist(root: Path, everything: str) -> None:
    text = (root / "docs/operations.md").read_text(encoding="utf-8")
    commands = set(re.findall(r"^\| `bacmr (\w+)", text, flags=re.MULTILINE))
    assert set(re.findall(r"(?:`|bin/)bacmr (\w+)", everything)) <= commands


def test_calls_that_pages_show_are_in_the_contract(everything: str) -> None:
    shown = set(re.findall(r"call (\w+)/(\w+)", everything)) | set(re.findall(r"`(\w+Service)\.(\w+)", everything))
    known = {
        (service.name, method.name)
        for module in MODULES
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert shown <= known


def test_requests_that_pages_show_have_fields_of_the_contract(everything: str) -> None:
    methods = {
        f"{service.name}/{method.name}": method
        for module in MODULES
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    for name, body in re.findall(r"call (\w+/\w+) '(\{.*)'", everything):
        fields = set(re.findall(r'"(\w+)":', body))
        known, seen = set(), [methods[name].input_type]
        for message in seen:
            known |= {field.name for field in message.fields}
            seen += [field.message_type for field in message.fields if field.message_type is not None]
        assert fields <= known, name


def test_settings_that_pages_name_exist(everything: str, setting_names: frozenset[str]) -> None:
    named = set(re.findall(r"\b(BACMR_[A-Z0-9_]+[A-Z0-9])\b", everything))
    assert named - CLIENT_VARIABLES <= setting_names


def test_alerts_of_the_page_are_the_alerts_there_are(root: Path) -> None:
    rules = (root / "deploy/prometheus/rules.yml").read_text()
    text = (root / "docs/operations.md").read_text(encoding="utf-8")
    table = text.partition("## Alerts")[2].partition("## Backups")[0]
    rows = re.findall(r"^\| ([A-Z]\w+(?:, \w+)*) \|", table, flags=re.MULTILINE)
    named = {name for row in rows for name in row.split(", ")} - {"Alert"}
    assert named == set(re.findall(r"- alert: (\w+)", rules))


def test_the_schedule_of_the_page_is_the_schedule(root: Path) -> None:
    text = (root / "docs/operations.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(\w+)` \| (.+?) \|", text.partition("## Schedules")[2].partition("## Logs")[0], re.MULTILINE
    )
    source = (root / "server/app/schedule.py").read_text()
    planned = re.findall(r'Periodic\("(\w+)", ([\d_]+|"[^"]+")', source)
    assert {name for name, _ in rows} == {name for name, _ in planned} | {
        "recover_stalled_jobs",
        "recover_stalled_jobs_operations",
    }
    said = dict(rows)
    for name, every in planned:
        assert said[name] == in_words(every), name


def in_words(every: str) -> str:
    if every.startswith('"'):
        minute, hour, _, _, weekday = every.strip('"').split()
        days = {"*": "daily", "0": "Sundays"}
        return f"{days[weekday]} at {int(hour):02}:{int(minute):02}"
    return {3_600: "hourly", 86_400: "daily"}.get(int(every), f"every {int(every)} s")


def test_old_metric_names_are_mapped_to_metrics_that_exist(
    root: Path, load_script: Callable[[str], ModuleType]
) -> None:
    known = set(load_script("deploy/grafana/make_dashboard.py").known_names().values())
    text = (root / "docs/operations.md").read_text(encoding="utf-8")
    mapped = dict(re.findall(r"^\| `(pinecone_\w+)` \| `(milvus_\w+)` \|", text, flags=re.MULTILINE))
    assert set(mapped.values()) == {name for name in known if name.startswith("milvus_")}
    assert all(new == old.replace("pinecone_", "milvus_") for old, new in mapped.items())


def test_the_chain_of_providers_that_a_page_shows_is_a_setting(root: Path) -> None:
    text = (root / "docs/operations.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```json\n(.+?)```", text, flags=re.DOTALL)
    chain = configured_providers(load(model_providers=json.loads(shown)))
    assert [provider.name for provider in chain] == ["gemini", "openai", "claude"]
    assert all(provider.api_key.get_secret_value() for provider in chain)


def test_every_criterion_names_tests_that_exist(root: Path) -> None:
    text = (root / "docs/acceptance.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (T\d+) \| .+ \| (`tests/.+) \|$", text, flags=re.MULTILINE)
    assert [number for number, _ in rows] == [f"T{number}" for number in range(1, 35)]
    for number, shown_by in rows:
        file = ""
        for path, test in re.findall(r"`(tests/[\w/]+\.py)?::(\w+)`", shown_by):
            file = path or file
            assert re.search(rf"^(async )?def {test}\(", (root / file).read_text(), flags=re.MULTILINE), number


def test_the_checks_of_the_books_are_all_explained(root: Path) -> None:
    checks = (root / "migrations/sql/0003_wallet_checks.sql").read_text()
    made = set(re.findall(r"SELECT '(\w+)', t FROM", checks)) | {usage.CHECK}
    text = (root / "docs/recipes/wallet-discrepancy.md").read_text(encoding="utf-8")
    assert made == set(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE))
