"""Promises of the Compose deployment."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.config import Settings

OWN = ("migrate", "server", "worker")
STORES = ("postgres", "redis", "etcd", "minio", "milvus")


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    return root / "deploy"


@pytest.fixture(scope="module")
def compose(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((folder / "compose.yaml").read_text())
    return loaded


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


def test_the_whole_system_is_there(services: dict[str, dict[str, Any]]) -> None:
    assert {*OWN, *STORES, "envoy", "prometheus", "alertmanager", "grafana"} == services.keys()


def test_every_setting_exists(services: dict[str, dict[str, Any]], setting_names: frozenset[str]) -> None:
    given = {name for name in OWN for name in services[name]["environment"]}
    assert given <= setting_names


def test_every_secret_of_the_server_is_a_setting(services: dict[str, dict[str, Any]]) -> None:
    files = {f"bacmr_{name}" for name in Settings.model_fields} | {"openai_api_key"}
    assert {secret for name in OWN for secret in services[name]["secrets"]} <= files


def test_secrets_come_from_files_and_are_declared(compose: dict[str, Any], services: dict[str, dict[str, Any]]) -> None:
    used = {secret for service in services.values() for secret in service.get("secrets", ())}
    assert used == compose["secrets"].keys()
    assert all(secret["file"] == f"./secrets/{name}" for name, secret in compose["secrets"].items())


def test_no_environment_holds_a_secret(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            secret = re.search(r"PASSWORD|TOKEN|KEY$|SECRET", variable)
            assert not secret or str(value).startswith("/run/secrets"), f"{name}: {variable}"


def test_images_are_pinned_and_memory_is_limited(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        _, colon, tag = service["image"].rpartition(":")
        assert colon, name
        assert re.search(r"\d+\.\d+|RELEASE\.\d{4}", tag), name
        assert name == "migrate" or service["deploy"]["resources"]["limits"]["memory"], name


def test_our_containers_have_no_more_rights_than_they_need(services: dict[str, dict[str, Any]]) -> None:
    for name in (*OWN, "envoy"):
        service = services[name]
        assert service["user"].split(":")[0] not in {"0", "root"}
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_nothing_is_published_beyond_this_machine(services: dict[str, dict[str, Any]]) -> None:
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_only_our_containers_reach_the_stores(compose: dict[str, Any], services: dict[str, dict[str, Any]]) -> None:
    assert compose["networks"]["stores"] == {"internal": True}
    assert all(services[store]["networks"] == ["stores"] for store in STORES)


def test_the_proxy_shares_the_servers_loopback(services: dict[str, dict[str, Any]]) -> None:
    assert services["envoy"]["network_mode"] == "service:server"
    assert "127.0.0.1:8081:8081" in services["server"]["ports"]


def test_the_schema_is_there_before_servers_start(services: dict[str, dict[str, Any]]) -> None:
    for name in ("server", "worker"):
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_every_mounted_file_and_named_volume_exists(
    folder: Path, compose: dict[str, Any], services: dict[str, dict[str, Any]]
) -> None:
    for service in services.values():
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            known = (folder / source).exists() if source.startswith(".") else source in compose["volumes"]
            assert known, mount


def test_prometheus_and_grafana_look_where_the_services_are(folder: Path, services: dict[str, dict[str, Any]]) -> None:
    config = yaml.safe_load((folder / "prometheus/prometheus.yml").read_text())
    jobs = {job["job_name"]: job["static_configs"][0]["targets"][0] for job in config["scrape_configs"]}
    http_port = services["server"]["environment"]["BACMR_HTTP_LISTEN"].rpartition(":")[2]
    source = yaml.safe_load((folder / "grafana/provisioning/datasource.yaml").read_text())["datasources"][0]
    assert jobs["bacmr"] == f"server:{http_port}"
    assert jobs["milvus"].split(":")[0] in services
    assert source["url"] == "http://prometheus:9090"


def test_a_stopped_server_is_given_the_time_to_drain(services: dict[str, dict[str, Any]]) -> None:
    drains = 2 * Settings.model_fields["drain_seconds"].default
    assert int(services["server"]["stop_grace_period"].removesuffix("s")) > drains


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_the_script_makes_every_secret_once(folder: Path, tmp_path: Path, compose: dict[str, Any]) -> None:
    script = shutil.copy(folder / "make_secrets.sh", tmp_path)
    alerting = set(compose["services"]["alertmanager"]["secrets"])

    def made() -> dict[str, str]:
        subprocess.run([script], check=True, capture_output=True, timeout=60)
        return {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}

    first = made()
    assert first.keys() == compose["secrets"].keys() - alerting
    assert made() == first
    assert first["postgres_server_password"] in first["bacmr_database_url"]
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("file", ["compose.yaml", "kubernetes/server.yaml"])
def test_envoy_accepts_its_configuration_as_containers_change_it(file: str, folder: Path, tmp_path: Path) -> None:
    before, after = re.search(r"sed 's/(.+?)/(.+?)/'", (folder / file).read_text()).groups()  # type: ignore[union-attr]
    original = (folder / "envoy.yaml").read_text()
    assert original.count(before) == 1
    changed = tmp_path / "envoy.yaml"
    changed.write_text(original.replace(before, after))
    envoy = Path(sys.executable).with_name("envoy")
    if not envoy.exists():
        pytest.skip("envoy (extra `web`) is not installed")
    checking = [envoy, "--mode", "validate", "--config-path", changed, "--log-level", "error"]
    subprocess.run(checking, check=True, capture_output=True, timeout=60)
    assert yaml.safe_load(changed.read_text())["static_resources"]["listeners"][0]["address"]["socket_address"] == {
        "address": "0.0.0.0",
        "port_value": 8081,
    }
