"""What compose runs: as whom, with what limits, in which order, and with which secrets."""

import re
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from sync.settings import Settings
from tests.deploy.helpers import COMPOSE, COMPOSE_FILE, DEPLOY, OURS, README, SECRETS, SERVICES, command, needs

PORT = 8321
MONITORING = {"prometheus", "grafana"}
SECRET_SETTINGS = [name.upper() for name, field in Settings.model_fields.items() if "Secret" in str(field.annotation)]


@pytest.mark.long
def test_compose_file_obeys_the_compose_specification() -> None:
    done = command(
        sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE_FILE)
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
def test_the_check_against_the_specification_can_fail(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE_FILE.read_text().replace("cap_drop:", "cap_dorp:"))

    done = command(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(wrong))

    assert done.returncode == 1
    assert "cap_dorp" in done.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_write_nowhere_and_do_nothing_as_root(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not {"privileged", "cap_add", "pid", "ipc", "network_mode", "devices"} & service.keys()
    assert name in OURS or service["user"] not in {"root", "0"}  # ours takes the image's user, see the Dockerfile


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_limits(name: str) -> None:
    assert SERVICES[name]["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert SERVICES[name]["ulimits"] == {"core": 0}
    assert "max-size" in SERVICES[name]["logging"]["options"]


def test_what_runs_on_is_restarted_and_what_ends_is_not() -> None:
    assert {name: service["restart"] for name, service in SERVICES.items()} == {
        name: "no" if name == "migrate" else "unless-stopped" for name in SERVICES
    }


def test_the_daemon_starts_after_the_migration_and_that_after_a_healthy_database() -> None:
    assert SERVICES["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert SERVICES["voucher-sync"]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


def test_the_daemon_may_take_its_10_s_to_stop() -> None:
    assert SERVICES["voucher-sync"]["stop_grace_period"] == "15s"


def test_the_database_is_checked_and_the_daemon_keeps_the_images_check() -> None:
    assert "pg_isready" in SERVICES["postgres"]["healthcheck"]["test"]
    assert "healthcheck" not in SERVICES["voucher-sync"]


def test_whatever_listens_does_so_on_this_machine_only() -> None:
    ports = {name: port for name, service in SERVICES.items() for port in service.get("ports", [])}

    assert ports == {
        "postgres": "127.0.0.1:${POSTGRES_PORT:-5432}:5432",
        "voucher-sync": f"127.0.0.1:${{HTTP_PORT:-{PORT}}}:{PORT}",
        "prometheus": "127.0.0.1:${PROMETHEUS_PORT:-9090}:9090",
        "grafana": "127.0.0.1:${GRAFANA_PORT:-3000}:3000",
    }


def test_prometheus_scrapes_the_daemon_and_grafana_asks_prometheus() -> None:
    (job,) = YAML(typ="safe").load(DEPLOY / "prometheus" / "prometheus.yml")["scrape_configs"]
    (source,) = YAML(typ="safe").load(DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml")[
        "datasources"
    ]
    (provider,) = YAML(typ="safe").load(DEPLOY / "grafana" / "provisioning" / "dashboards" / "voucher-sync.yml")[
        "providers"
    ]
    mounts = dict(mount.split(":")[:2] for mount in SERVICES["grafana"]["volumes"])

    assert SERVICES["voucher-sync"]["environment"]["SYNC_HTTP_BIND"] == f"0.0.0.0:{PORT}"
    assert job["static_configs"] == [{"targets": [f"voucher-sync:{PORT}"]}]
    assert source["url"] == "http://prometheus:9090"
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
    assert SERVICES["prometheus"]["volumes"][0] == "./prometheus:/etc/prometheus:ro"


def test_monitoring_starts_only_where_it_is_asked_for() -> None:
    assert {name for name, service in SERVICES.items() if service.get("profiles") == ["monitoring"]} == MONITORING
    assert not any("profiles" in service for name, service in SERVICES.items() if name not in MONITORING)


def test_the_daemons_role_is_not_the_one_that_the_database_is_made_with() -> None:
    assert "POSTGRES_USER" not in SERVICES["postgres"]["environment"]  # then it is `postgres`
    assert "./postgres-owner.sql:/docker-entrypoint-initdb.d/owner.sql:ro" in SERVICES["postgres"]["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_secrets_come_from_files_and_none_stands_in_the_environment(name: str) -> None:
    environment = SERVICES[name].get("environment", {})
    named = {value for variable, value in environment.items() if variable.endswith("_FILE")}
    if name == "prometheus":
        named = set(re.findall(r"(?m)credentials_file: (\S+)$", (DEPLOY / "prometheus" / "prometheus.yml").read_text()))

    assert named == {f"/run/secrets/{secret}" for secret in SERVICES[name]["secrets"]}
    assert not {*SECRET_SETTINGS, "POSTGRES_PASSWORD"} & environment.keys()


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("connections", {"SYNC_SECRET_KEY_FILE": "/run/secrets/secret_key"}),
        (
            "integrations",
            {
                "SYNC_INTEGRATION_BIND": "0.0.0.0:8322",
                "SYNC_INTEGRATION_SECRET_FILE": "/run/secrets/integration_secret",
            },
        ),
    ],
)
def test_what_many_hotels_need_is_a_file_beside_it(name: str, settings: dict[str, str]) -> None:
    path = DEPLOY / f"compose.{name}.yaml"
    done = command(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path))
    beside = YAML(typ="safe").load(path)
    (secret,) = beside["secrets"]
    (service,) = beside["services"].values()

    assert (done.returncode, done.stdout) == (0, "ok -- validation done\n"), done.stderr
    assert beside["services"].keys() == {"voucher-sync"}
    assert (service["environment"], service["secrets"]) == (settings, [secret])
    assert beside["secrets"][secret] == {"file": f"secrets/{secret}"}
    assert service.get("ports", []) == (["127.0.0.1:${INTEGRATION_PORT:-8322}:8322"] if name == "integrations" else [])
    assert f"compose.{name}.yaml" in README


@pytest.mark.parametrize(
    ("setting", "file"), [("sync_secret_key", "secret_key"), ("sync_integration_secret", "integration_secret")]
)
def test_the_secrets_that_the_operator_is_told_to_make_are_good(setting: str, file: str) -> None:
    lines = re.findall(rf"(?m)^ *(openssl .*) > (?:secrets/)?{file}$", README)
    assert len(lines) == 3, "for Compose, systemd and Kubernetes"
    for line in lines:
        for tool in re.findall(r"(?:^|\| )(\w+)", line):
            needs(tool)
        made = command(needs("bash"), "-c", line).stdout.strip()
        Settings.model_validate({setting: made})


def test_every_secret_is_a_file_that_git_ignores() -> None:
    names = SECRETS | {"postgres_password", "http_token", "grafana_password"}

    assert COMPOSE["secrets"] == {name: {"file": f"secrets/{name}"} for name in names}
    assert {name for name in names if f"> secrets/{name}" not in README} == set()
    assert "/secrets/" in (DEPLOY / ".gitignore").read_text().splitlines()


def test_what_deploys_env_file_can_set_is_written_about() -> None:
    files = sorted(DEPLOY.glob("compose*.yaml"))
    names = {name for file in files for name in re.findall(r"\$\{(\w+)", file.read_text())}

    assert {name for name in names if f"`{name}" not in README} == set()
