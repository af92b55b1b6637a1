"""What is applied to a cluster: that Kubernetes knows it, as whom it runs, and that it names what there is."""

import asyncio
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from psycopg.pq import Conninfo
from ruamel.yaml import YAML

from sync.cli.commands import voucher_sync
from sync.core.bind_address import read_bind_address
from sync.settings import Settings
from tests.deploy.helpers import DEPLOY, README, SECRETS, command, needs
from tests.deploy.kubernetes_schema import SCHEMA_FILE
from tests.support.daemon import PATIENCE_S, running
from tests.support.mirror import Mirror

MANIFESTS = DEPLOY / "kubernetes"
FOLDERS = sorted(path.parent for path in MANIFESTS.rglob("kustomization.yaml"))
OF_SITE = {"voucher-sync-database-ca"}
"""Config maps that a site makes by itself."""
SETTINGS = {name.upper() for name in Settings.model_fields}
OF_LIBPQ = {one.envvar.decode() for one in Conninfo.get_defaults() if one.envvar}
ENDINGS = r"(?m)^---$"


def load(path: Path) -> Any:
    return YAML(typ="safe").load(path)


def resources() -> list[Path]:
    """The files of the base, and of overlays, that are whole resources."""
    return [folder / name for folder in FOLDERS for name in load(folder / "kustomization.yaml").get("resources", [])]


def manifest_files() -> list[Path]:
    return [path for path in resources() if path.is_file()]


STATEFUL_SET = load(MANIFESTS / "base" / "stateful-set.yaml")
POD = STATEFUL_SET["spec"]["template"]["spec"]
CONTAINERS: list[dict[str, Any]] = [*POD["initContainers"], *POD["containers"]]


def rendered(folder: Path, directory: Path) -> Iterator[Path]:
    """What `kubectl apply --kustomize` would send, a file each."""
    done = command(needs("kubectl"), "kustomize", str(folder))
    assert done.returncode == 0, done.stderr
    for number, text in enumerate(re.split(ENDINGS, done.stdout)):
        path = directory / f"{number}.yaml"
        path.write_text(text)
        yield path


def validated(*paths: Path) -> str:
    """What is wrong with manifests by Kubernetes' own schema; nothing if they are right."""
    done = command(sys.executable, "-m", "check_jsonschema", "--schemafile", str(SCHEMA_FILE), *map(str, paths))
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.long
def test_kubernetes_knows_every_field_of_the_manifests() -> None:
    assert len(manifest_files()) >= 6
    assert validated(*manifest_files()) == ""


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("right", "wrong"),
    [("readOnlyRootFilesystem:", "readonlyRootFilesystem:"), ("replicas: 2", 'replicas: "2"'), ("apps/v1", "apps/v2")],
)
def test_the_check_against_kubernetes_schema_can_fail(tmp_path: Path, right: str, wrong: str) -> None:
    path = tmp_path / "stateful-set.yaml"
    text = (MANIFESTS / "base" / "stateful-set.yaml").read_text()
    path.write_text(text.replace(right, wrong))

    assert right in text
    assert wrong.strip('":').split()[-1].strip('"') in validated(path)


def test_every_file_belongs_to_a_kustomization() -> None:
    named = set(resources())
    for folder in FOLDERS:
        one = load(folder / "kustomization.yaml")
        named |= {folder / patch["path"] for patch in one.get("patches", [])}
        named |= {folder / name for maps in one.get("configMapGenerator", []) for name in maps.get("envs", [])}
        named |= {folder / name for name in one.get("components", [])}
        named.add(folder / "kustomization.yaml")
    files = {path for path in MANIFESTS.rglob("*") if path.is_file()}

    assert {path.resolve() for path in named if path.is_file()} == files
    assert [path for path in named if not path.exists()] == []


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda one: str(one["name"]))
def test_a_container_can_write_nowhere_and_do_nothing_as_root(container: dict[str, Any]) -> None:
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"].keys() == {"requests", "limits"}
    assert container["image"] == "voucher-sync"
    assert container["args"][0] in voucher_sync.commands


def test_the_pod_runs_as_the_images_user_and_gets_no_token_of_the_cluster() -> None:
    (user,) = re.findall(r"(?m)^USER (\d+):(\d+)$", (DEPLOY / "Dockerfile").read_text())
    context = POD["securityContext"]

    assert (str(context["runAsUser"]), str(context["runAsGroup"]), context["runAsNonRoot"]) == (*user, True)
    assert str(context["fsGroup"]) == user[1]
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["automountServiceAccountToken"] is False
    assert POD["enableServiceLinks"] is False


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda one: str(one["name"]))
def test_secrets_come_from_files_of_the_secret_that_the_operator_is_told_to_make(container: dict[str, Any]) -> None:
    (mount,) = (one for one in container["volumeMounts"] if one["name"] == "secrets")
    files = {one["name"]: one["value"] for one in container["env"]}
    names = {name.removesuffix("_FILE"): Path(path) for name, path in files.items()}
    told = re.findall(r"--from-file=secrets/(\w+)", README)

    assert mount["readOnly"] is True
    assert {str(path.parent) for path in names.values()} == {mount["mountPath"]}
    assert {name: path.name for name, path in names.items()} == {
        "SYNC_HTTP_TOKEN": "http_token",
        **{name.upper(): name for name in SECRETS},
    }
    of_components = [Path(one["value"]) for _, env in added_by_components("env") for one in env]
    assert {str(path.parent) for path in of_components} == {mount["mountPath"]}
    assert sorted(told) == sorted(path.name for path in [*names.values(), *of_components])


def added_by_components(what: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """What each component gives the daemon's container beside the base."""
    for path in sorted(MANIFESTS.glob("components/*/stateful-set.yaml")):
        (daemon,) = load(path)["spec"]["template"]["spec"]["containers"]
        if what in daemon:
            yield path.parent.name, daemon[what]


def test_components_give_the_key_to_stored_tokens_and_what_receives_webhooks() -> None:
    files = {name: [(one["name"], one["value"]) for one in env] for name, env in added_by_components("env")}
    mounted = "/run/secrets/voucher-sync"

    assert files == {
        "connections": [("SYNC_SECRET_KEY_FILE", f"{mounted}/secret_key")],
        "integrations": [("SYNC_INTEGRATION_SECRET_FILE", f"{mounted}/integration_secret")],
    }


def test_webhooks_reach_the_port_that_they_are_received_on_and_nothing_else_does() -> None:
    folder = MANIFESTS / "components" / "integrations"
    (literal,) = load(folder / "kustomization.yaml")["configMapGenerator"][0]["literals"]
    address = read_bind_address(literal.partition("=")[2])
    ((_, (port,)),) = added_by_components("ports")
    service, policy = (load(folder / f"{name}.yaml")["spec"] for name in ("service", "network-policy"))
    label = STATEFUL_SET["spec"]["template"]["metadata"]["labels"]

    assert address is not None
    assert (port["name"], port["containerPort"], address.is_loopback) == ("integrations", address.port, False)
    assert [(one["port"], one["targetPort"]) for one in service["ports"]] == [(address.port, "integrations")]
    assert [one["port"] for rule in policy["ingress"] for one in rule["ports"]] == ["integrations"]
    assert service["selector"] == policy["podSelector"]["matchLabels"] == label
    assert policy["policyTypes"] == ["Ingress"]


def test_every_other_variable_is_a_setting_or_libpqs() -> None:
    lines = (MANIFESTS / "base" / "voucher-sync.env").read_text().splitlines()
    given = [line for line in lines if not line.startswith("#")]
    for folder in FOLDERS:
        for maps in load(folder / "kustomization.yaml").get("configMapGenerator", []):
            given += maps.get("literals", [])
    values = dict(line.split("=", 1) for line in given)

    assert len(values) == len(given) == 5
    assert values.keys() - SETTINGS <= OF_LIBPQ
    Settings.model_validate({name.lower(): value for name, value in values.items() if name in SETTINGS})


def test_probes_and_prometheus_reach_the_port_that_the_daemon_listens_on() -> None:
    (line,) = re.findall(r"(?m)^SYNC_HTTP_BIND=(.+)$", (MANIFESTS / "base" / "voucher-sync.env").read_text())
    address = read_bind_address(line)
    daemon = POD["containers"][0]
    (port,) = daemon["ports"]
    service = load(MANIFESTS / "base" / "service.yaml")["spec"]
    policy = load(MANIFESTS / "base" / "network-policy.yaml")["spec"]

    assert address is not None
    assert not address.is_loopback
    assert (port["name"], port["containerPort"]) == ("http", address.port)
    assert [(one["port"], one["targetPort"]) for one in service["ports"]] == [(address.port, "http")]
    assert [one["port"] for rule in policy["ingress"] for one in rule["ports"]] == ["http"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert daemon[probe]["httpGet"]["port"] == "http"


@pytest.mark.long
async def test_each_probe_is_answered_without_the_token(mirror: Mirror, tmp_path: Path) -> None:
    probes = {POD["containers"][0][f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    settings = {
        "SYNC_HTTP_BIND": "127.0.0.1:0",
        "SYNC_HTTP_TOKEN": "a-token-of-many-characters",
        "SYNC_LOG_LEVEL": "info",
    }
    async with running(mirror, tmp_path, **settings) as daemon, httpx.AsyncClient(trust_env=False) as client:
        address = (await daemon.event("http_listening"))["address"].rstrip("/")
        async with asyncio.timeout(PATIENCE_S):
            while {(await client.get(f"{address}{path}")).status_code for path in probes} != {200}:
                pass
        assert (await client.get(f"{address}/metrics")).status_code == 401
    assert len(probes) == 2


def test_whatever_selects_the_pods_selects_by_their_label() -> None:
    label = STATEFUL_SET["spec"]["template"]["metadata"]["labels"]
    selectors = [STATEFUL_SET["spec"]["selector"]["matchLabels"]]
    selectors += [one["labelSelector"]["matchLabels"] for one in POD["topologySpreadConstraints"]]
    selectors.append(load(MANIFESTS / "base" / "service.yaml")["spec"]["selector"])
    selectors.append(load(MANIFESTS / "base" / "disruption-budget.yaml")["spec"]["selector"]["matchLabels"])
    selectors.append(load(MANIFESTS / "base" / "network-policy.yaml")["spec"]["podSelector"]["matchLabels"])

    assert [one for one in selectors if one != label] == []


def test_each_replica_has_a_witness_of_its_own_that_outlives_it() -> None:
    (claim,) = STATEFUL_SET["spec"]["volumeClaimTemplates"]
    directories = re.findall(r"SYNC_STATE_DIR=(\S+)", (DEPLOY / "Dockerfile").read_text())
    mounts = {
        one["mountPath"] for container in CONTAINERS for one in container["volumeMounts"] if one["name"] == "state"
    }

    assert (claim["metadata"]["name"], claim["spec"]["accessModes"]) == ("state", ["ReadWriteOnce"])
    assert mounts == set(directories)
    assert STATEFUL_SET["spec"]["persistentVolumeClaimRetentionPolicy"] == {
        "whenDeleted": "Retain",
        "whenScaled": "Retain",
    }


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda container: container["name"])
def test_no_replica_is_evicted_for_its_log(container: dict[str, Any]) -> None:
    most = container["resources"]["limits"]["ephemeral-storage"]
    assert int(most.removesuffix("Mi")) > 5 * 50, "the kubelet keeps so many files of so many MB, with some providers"


def test_no_replica_hinders_a_node_from_being_drained() -> None:
    budget = load(MANIFESTS / "base" / "disruption-budget.yaml")["spec"]

    assert budget["maxUnavailable"] == 1
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@pytest.mark.long
@pytest.mark.parametrize("folder", ["base", "overlays/example"])
def test_what_is_applied_is_valid_and_refers_to_what_is_there(tmp_path: Path, folder: str) -> None:
    files = list(rendered(MANIFESTS / folder, tmp_path))
    found = [load(path) for path in files]
    maps = {one["metadata"]["name"] for one in found if one["kind"] == "ConfigMap"} | OF_SITE
    (stateful_set,) = (one for one in found if one["kind"] == "StatefulSet")
    pod = stateful_set["spec"]["template"]["spec"]
    volumes = {one["name"] for one in pod["volumes"]} | {"state"}

    assert validated(*files) == ""
    for container in (*pod["initContainers"], *pod["containers"]):
        assert {one["configMapRef"]["name"] for one in container["envFrom"]} <= maps
        assert {one["name"] for one in container["volumeMounts"]} == volumes
    assert {one["configMap"]["name"] for one in pod["volumes"] if "configMap" in one} <= maps


def test_replicas_share_the_work_and_at_most_one_at_a_time_may_be_missing() -> None:
    assert STATEFUL_SET["spec"]["replicas"] == 2
    assert load(MANIFESTS / "base" / "disruption-budget.yaml")["spec"]["maxUnavailable"] == 1


@pytest.mark.long
def test_the_example_has_replicas_of_this_release_and_verifies_the_database(tmp_path: Path) -> None:
    found = {one["kind"]: one for one in map(load, rendered(MANIFESTS / "overlays" / "example", tmp_path))}
    release = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]["version"]
    spec = found["StatefulSet"]["spec"]
    (daemon,) = spec["template"]["spec"]["containers"]
    certificates = {one["name"]: one["mountPath"] for one in daemon["volumeMounts"]}["database-ca"]

    assert spec["replicas"] == 3
    assert daemon["image"].rpartition(":")[2] == release
    assert found["ConfigMap"]["data"]["PGSSLMODE"] == "verify-full"
    assert found["ConfigMap"]["data"]["PGSSLROOTCERT"] == f"{certificates}/ca.pem"
    assert {one["metadata"]["namespace"] for kind, one in found.items() if kind != "Namespace"} == {"voucher-sync"}
