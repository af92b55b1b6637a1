"""What compose runs: as whom, with what limits, in which order, and with which secrets."""

import sys
from pathlib import Path

import pytest

from sync.settings import Settings
from tests.deploy.helpers import COMPOSE, COMPOSE_FILE, DEPLOY, OURS, SECRETS, SERVICES, command

SECRET_SETTINGS = [name.upper() for name, field in Settings.model_fields.items() if "Secret" in str(field.annotation)]


def test_compose_file_obeys_the_compose_specification() -> None:
    done = command(
        sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE_FILE)
    )

    assert done.returncode == 0, done.stdout + done.stderr


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
        "postgres": "unless-stopped",
        "migrate": "no",
        "voucher-sync": "unless-stopped",
    }


def test_the_daemon_starts_after_the_migration_and_that_after_a_healthy_database() -> None:
    assert SERVICES["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert SERVICES["voucher-sync"]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


def test_the_daemon_may_take_its_10_s_to_stop() -> None:
    assert SERVICES["voucher-sync"]["stop_grace_period"] == "15s"


def test_the_database_is_checked_and_the_daemon_keeps_the_images_check() -> None:
    assert "pg_isready" in SERVICES["postgres"]["healthcheck"]["test"]
    assert "healthcheck" not in SERVICES["voucher-sync"]


def test_the_database_listens_on_this_machine_only() -> None:
    assert [port.rpartition("}")[0].partition("$")[0] for port in SERVICES["postgres"]["ports"]] == ["127.0.0.1:"]
    assert not any("ports" in SERVICES[name] for name in OURS)


def test_the_daemons_role_is_not_the_one_that_the_database_is_made_with() -> None:
    assert "POSTGRES_USER" not in SERVICES["postgres"]["environment"]  # then it is `postgres`
    assert "./postgres-owner.sql:/docker-entrypoint-initdb.d/owner.sql:ro" in SERVICES["postgres"]["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_secrets_come_from_files_and_none_stands_in_the_environment(name: str) -> None:
    environment = SERVICES[name]["environment"]
    named = {value for variable, value in environment.items() if variable.endswith("_FILE")}

    assert named == {f"/run/secrets/{secret}" for secret in SERVICES[name]["secrets"]}
    assert not {*SECRET_SETTINGS, "POSTGRES_PASSWORD"} & environment.keys()


def test_every_secret_is_a_file_that_git_ignores() -> None:
    assert COMPOSE["secrets"] == {name: {"file": f"secrets/{name}"} for name in SECRETS}
    assert "/secrets/" in (DEPLOY / ".gitignore").read_text().splitlines()
