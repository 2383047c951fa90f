"""Promises of the Kubernetes manifests."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bacmr.v1 import retrieval_pb2
from server.app.services import NEEDS
from server.config import Settings

Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    return root / "deploy" / "kubernetes"


@pytest.fixture(scope="module")
def manifests(folder: Path) -> dict[tuple[str, str], Manifest]:
    """Everything that is applied, by kind and name."""
    files = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    documents = [found for file in files for found in yaml.safe_load_all((folder / file).read_text())]
    return {(found["kind"], found["metadata"]["name"]): found for found in documents}


@pytest.fixture(scope="module")
def pods(manifests: dict[tuple[str, str], Manifest]) -> dict[str, Manifest]:
    """The pod specifications by the name of what makes them."""
    makers = [found for (kind, _), found in manifests.items() if kind in {"Deployment", "Job"}]
    return {found["metadata"]["name"]: found["spec"]["template"]["spec"] for found in makers}


@pytest.fixture(scope="module")
def secrets(folder: Path) -> dict[str, Manifest]:
    """The examples of the secrets by name."""
    found = yaml.safe_load_all((folder / "secret.example.yaml").read_text())
    return {secret["metadata"]["name"]: secret["stringData"] for secret in found}


def containers(pods: dict[str, Manifest]) -> Iterator[tuple[str, Manifest, Manifest]]:
    """Yield every container with its pod."""
    for name, pod in pods.items():
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            yield f"{name}/{container['name']}", pod, container


def server_of(pods: dict[str, Manifest]) -> Manifest:
    found: Manifest = next(each for each in pods["bacmr-server"]["containers"] if each["name"] == "server")
    return found


def test_everything_lives_in_one_namespace_with_restricted_pods(manifests: dict[tuple[str, str], Manifest]) -> None:
    namespace = manifests["Namespace", "bacmr"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    others = [found for kind_and_name, found in manifests.items() if kind_and_name[0] != "Namespace"]
    assert {found["metadata"]["namespace"] for found in others} == {"bacmr"}


def test_every_setting_exists(
    manifests: dict[tuple[str, str], Manifest], pods: dict[str, Manifest], setting_names: frozenset[str]
) -> None:
    given = set(manifests["ConfigMap", "bacmr"]["data"])
    for _, _, container in containers(pods):
        given |= {variable["name"] for variable in container.get("env", ())}
    assert given <= setting_names


def test_every_secret_is_a_setting_and_no_setting_of_the_map_is_a_secret(
    manifests: dict[tuple[str, str], Manifest], secrets: dict[str, Manifest]
) -> None:
    secret_settings = {
        f"bacmr_{name}"
        for name, field in Settings.model_fields.items()
        if "SecretStr" in str(field.annotation) or name == "model_providers"
    }
    plain = {name.lower() for name in manifests["ConfigMap", "bacmr"]["data"]}
    assert secrets["bacmr"].keys() - {"installation"} <= secret_settings
    assert not plain & secret_settings


def test_the_settings_of_the_map_and_the_secret_load(
    manifests: dict[tuple[str, str], Manifest], secrets: dict[str, Manifest]
) -> None:
    given = {**manifests["ConfigMap", "bacmr"]["data"], **secrets["bacmr"]}
    named = {name.lower().removeprefix("bacmr_"): value for name, value in given.items()}
    providers = yaml.safe_load(named.pop("model_providers"))
    settings = Settings(**named, model_providers=providers)
    assert settings.allow_plaintext
    assert settings.model_providers[0].api_key.get_secret_value() == "KEY"


def test_nothing_runs_as_root_or_can_become_it(pods: dict[str, Manifest]) -> None:
    for pod in pods.values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
    for name, _, container in containers(pods):
        rights = container["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False, name
        assert rights["readOnlyRootFilesystem"] is True, name
        assert rights["capabilities"] == {"drop": ["ALL"]}, name


def test_images_are_pinned_and_resources_limited(pods: dict[str, Manifest]) -> None:
    for name, _, container in containers(pods):
        assert re.search(r":v?\d+\.\d+\.\d+$", container["image"]), name
        assert container["resources"]["limits"].keys() == container["resources"]["requests"].keys() == {"cpu", "memory"}


def test_every_mount_has_its_volume(pods: dict[str, Manifest]) -> None:
    for name, pod, container in containers(pods):
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes, name


def test_probes_ask_the_ports_that_are_served(
    manifests: dict[tuple[str, str], Manifest], pods: dict[str, Manifest]
) -> None:
    data, server = manifests["ConfigMap", "bacmr"]["data"], server_of(pods)
    ports = {port["name"]: port["containerPort"] for port in server["ports"]}
    assert ports == {
        "grpc": int(data["BACMR_GRPC_LISTEN"].rpartition(":")[2]),
        "http": int(data["BACMR_HTTP_LISTEN"].rpartition(":")[2]),
    }
    assert server["readinessProbe"]["grpc"]["port"] == server["startupProbe"]["grpc"]["port"] == ports["grpc"]
    assert server["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}


def test_a_worker_is_probed_and_scraped_on_the_port_it_is_given(pods: dict[str, Manifest]) -> None:
    worker = pods["bacmr-worker"]["containers"][0]
    (listen,) = [one["value"] for one in worker["env"] if one["name"] == "BACMR_WORKER_LISTEN"]
    assert worker["ports"] == [{"name": "http", "containerPort": int(listen.rpartition(":")[2])}]
    assert worker["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}


def test_a_pod_stays_in_service_while_milvus_is_away(pods: dict[str, Manifest]) -> None:
    asked = server_of(pods)["readinessProbe"]["grpc"]["service"]
    assert asked == retrieval_pb2.DESCRIPTOR.services_by_name["RetrievalService"].full_name
    assert set(NEEDS[asked]) == {"postgresql"}


def test_a_pod_is_given_the_time_to_drain(
    manifests: dict[tuple[str, str], Manifest], pods: dict[str, Manifest]
) -> None:
    drain = float(manifests["ConfigMap", "bacmr"]["data"]["BACMR_DRAIN_SECONDS"])
    notice = float(server_of(pods)["lifecycle"]["preStop"]["exec"]["command"][1])
    envoy = next(each for each in pods["bacmr-server"]["containers"] if each["name"] == "envoy")
    needed = notice + 2 * drain
    assert needed < float(envoy["lifecycle"]["preStop"]["exec"]["command"][1])
    assert needed < pods["bacmr-server"]["terminationGracePeriodSeconds"]


def test_readers_fit_into_their_containers(pods: dict[str, Manifest]) -> None:
    reader_bytes = Settings.model_fields["extraction_memory_bytes"].default
    for container in (server_of(pods), pods["bacmr-worker"]["containers"][0]):
        environment = {variable["name"]: variable["value"] for variable in container["env"]}
        limit_bytes = int(container["resources"]["limits"]["memory"].removesuffix("Gi")) * 1024**3
        assert int(environment["BACMR_WORKER_CONCURRENCY"]) * reader_bytes < limit_bytes


def test_selectors_select_the_pods(manifests: dict[tuple[str, str], Manifest]) -> None:
    deployments = [found for (kind, _), found in manifests.items() if kind == "Deployment"]
    labels = [found["spec"]["template"]["metadata"]["labels"] for found in deployments]
    assert all(found["spec"]["selector"]["matchLabels"] in labels for found in deployments)
    budgets = [found["spec"]["selector"]["matchLabels"] for (kind, _), found in manifests.items() if "Budget" in kind]
    services = [found["spec"]["selector"] for (kind, _), found in manifests.items() if kind == "Service"]
    assert budgets
    assert services
    assert all(selector in labels for selector in (*budgets, *services))


def test_services_and_policies_name_ports_that_pods_have(
    manifests: dict[tuple[str, str], Manifest], pods: dict[str, Manifest]
) -> None:
    named = {port["name"] for _, _, container in containers(pods) for port in container.get("ports", ())}
    targets = {
        port["targetPort"]
        for (kind, _), found in manifests.items()
        if kind == "Service"
        for port in found["spec"]["ports"]
    }
    rules = manifests["NetworkPolicy", "server-callers"]["spec"]["ingress"]
    assert targets <= named
    assert {port["port"] for rule in rules for port in rule["ports"]} == named


def test_the_open_web_reaches_nothing_but_the_proxy(manifests: dict[tuple[str, str], Manifest]) -> None:
    denied = manifests["NetworkPolicy", "nothing-by-default"]["spec"]
    assert denied == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    rules = manifests["NetworkPolicy", "server-callers"]["spec"]["ingress"]
    open_to_all = [port["port"] for rule in rules if "from" not in rule for port in rule["ports"]]
    balanced = [
        port["targetPort"]
        for (kind, _), found in manifests.items()
        if kind == "Service" and found["spec"].get("type") == "LoadBalancer"
        for port in found["spec"]["ports"]
    ]
    assert open_to_all == balanced == ["web"]


def test_autoscalers_scale_what_exists_and_deployments_leave_the_count_to_them(
    manifests: dict[tuple[str, str], Manifest],
) -> None:
    scaled = {
        found["spec"]["scaleTargetRef"]["name"]
        for (kind, _), found in manifests.items()
        if kind == "HorizontalPodAutoscaler"
    }
    deployments = {name: found for (kind, name), found in manifests.items() if kind == "Deployment"}
    assert scaled == deployments.keys()
    assert not any("replicas" in found["spec"] for found in deployments.values())
