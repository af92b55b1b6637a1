"""What can be known of deploy/ without an engine: schemas, promises of hardening, and that its words are true."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from pydantic import SecretStr
from ruamel.yaml import YAML

from sync.cli.commands import voucher_sync
from sync.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE_FILE = DEPLOY / "compose.yaml"
COMPOSE: dict[str, Any] = YAML(typ="safe").load(COMPOSE_FILE)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("migrate", "voucher-sync")
SECRETS = {"database_url", "mews_client_token", "mews_access_token", "postgres_password"}
SECRET_SETTINGS = [name.upper() for name, field in Settings.model_fields.items() if "Secret" in str(field.annotation)]
FILES = [path for path in sorted(DEPLOY.iterdir()) if path.is_file() and path.suffix != ".lock"]
README = (DEPLOY / "README.md").read_text()
NO_DEFAULT = {"SYNC_BACKFILL_FROM"}
"""Examples in `voucher-sync.env.example` of what has no default."""


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, check=False, capture_output=True, text=True)


def needs(tool: str) -> str:
    """The path of a tool that CI has, and a developer's machine may not have."""
    path = shutil.which(tool)
    if path is None:
        pytest.skip(f"{tool} is not installed: .ci/run installs it")
    return path


# compose.yaml


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


def test_every_base_image_is_named_by_digest() -> None:
    bases = {
        value.partition("=")[2] for name, value in instructions() if name == "ARG" and value.startswith("BASE_IMAGE")
    }
    images = bases | {service["image"] for name, service in SERVICES.items() if name not in OURS}

    assert {rest.partition(" ")[0] for stage in stages() for name, rest in stage if name == "FROM"} == {"${BASE_IMAGE}"}
    assert len(images) == 2
    for image in images:
        assert re.fullmatch(r"[a-z]+:[\w.-]+@sha256:[0-9a-f]{64}", image), image


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


# Dockerfile


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"(?m)^#.*\n", "", (DEPLOY / "Dockerfile").read_text())
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines if line)]


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage, from its FROM on."""
    found: list[list[tuple[str, str]]] = []
    for instruction in instructions():
        if instruction[0] == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


def test_the_image_is_built_in_one_stage_and_runs_from_another() -> None:
    build, final = stages()

    assert build[0][1].endswith(" AS build")
    assert any(name == "COPY" and "--from=build" in rest for name, rest in final)
    assert not any("pip " in rest for _, rest in final)


def test_the_image_runs_as_a_user_with_a_number_that_is_not_roots() -> None:
    users = [rest for name, rest in stages()[-1] if name == "USER"]

    assert len(users) == 1
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[0])


def test_the_operator_is_told_the_users_number() -> None:
    (user,) = (rest for name, rest in stages()[-1] if name == "USER")

    assert f"chown {user} secrets/database_url secrets/mews_client_token secrets/mews_access_token" in README


def test_the_image_checks_its_health() -> None:
    (check,) = (rest for name, rest in stages()[-1] if name == "HEALTHCHECK")

    assert check.endswith('CMD ["voucher-sync", "status", "--healthy"]')


def test_every_download_of_the_build_has_its_hash() -> None:
    commands = [one for name, rest in stages()[0] if name == "RUN" for one in rest.split("&&")]
    installs = [one for one in commands if "pip" in one and " install " in one]

    assert len(installs) == 3
    for install in installs:
        assert "--no-deps" in install
        assert "--require-hashes --only-binary=:all: -r" in re.sub(r" +", " ", install) or "dist/*.whl" in install


def test_the_build_sees_only_what_it_is_given() -> None:
    everything, *given = (
        line for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if not line.startswith("#")
    )
    copied = {source for name, rest in stages()[0] if name == "COPY" for source in rest.split()[:-1]}

    assert everything == "*"
    assert {line[1:] for line in given if line.startswith("!")} == copied


# voucher-sync.service


def unit_lines() -> Iterator[tuple[str, str, str]]:
    """Section, name and value of every setting, in order: systemd adds up some that are given again."""
    section = ""
    for line in (DEPLOY / "voucher-sync.service").read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            name, separator, value = line.partition("=")
            assert separator, line
            assert re.fullmatch(r"[A-Z][A-Za-z]*", name), line
            yield section, name, value


def service_setting(name: str) -> list[str]:
    return [value for section, found, value in unit_lines() if section == "Service" and found == name]


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    systemd_analyze = needs("systemd-analyze")
    unit = tmp_path / "voucher-sync.service"
    # It asks whether the program exists, which it does where the unit is installed.
    unit.write_text(
        (DEPLOY / "voucher-sync.service").read_text().replace("/opt/voucher-sync/bin/voucher-sync", "/bin/true")
    )

    done = command(systemd_analyze, "verify", "--man=no", str(unit))

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # an unknown setting is only a warning to it


def test_systemd_rates_the_unit_as_little_exposed() -> None:
    done = command(
        needs("systemd-analyze"), "security", "--offline=yes", "--threshold=11", str(DEPLOY / "voucher-sync.service")
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_unit_has_the_three_sections_and_repeats_none() -> None:
    sections = [line for line in (DEPLOY / "voucher-sync.service").read_text().splitlines() if line.startswith("[")]

    assert sections == ["[Unit]", "[Service]", "[Install]"]


def test_the_daemon_tells_systemd_when_it_is_ready_and_that_it_lives() -> None:
    assert service_setting("Type") == ["notify"]
    assert service_setting("NotifyAccess") == ["main"]
    assert service_setting("WatchdogSec") == ["60"]
    assert service_setting("Restart") == ["always"]


def test_systemd_hands_over_every_secret_as_a_credential() -> None:
    loaded = dict(value.split(":") for value in service_setting("LoadCredential"))
    named = dict(value.split("=") for value in service_setting("Environment") if "_FILE=" in value)

    assert loaded == {name: f"/etc/voucher-sync/credentials/{name}" for name in SECRETS - {"postgres_password"}}
    assert named == {f"{name.upper()}_FILE": f"%d/{name}" for name in loaded}


def test_the_unit_runs_the_commands_that_exist() -> None:
    for line in (*service_setting("ExecStartPre"), *service_setting("ExecStart")):
        program, name = line.split()
        assert program == "/opt/voucher-sync/bin/voucher-sync"
        assert name in voucher_sync.commands


# What is written about it


def settings_of_the_example() -> list[tuple[str, str]]:
    text = (DEPLOY / "voucher-sync.env.example").read_text()
    return re.findall(r"(?m)^#([A-Z][A-Z0-9_]*)=(.*)$", text)


def test_the_example_of_settings_sets_nothing() -> None:
    text = (DEPLOY / "voucher-sync.env.example").read_text()

    assert [line for line in text.splitlines() if line and not line.startswith("#")] == []
    assert len(settings_of_the_example()) > 5


@pytest.mark.parametrize(("name", "value"), settings_of_the_example())
def test_the_example_shows_a_setting_that_exists_with_its_default(name: str, value: str) -> None:
    field = Settings.model_fields[name.lower()]
    read = getattr(Settings.model_validate({name.lower(): value}), name.lower())

    if name in NO_DEFAULT:
        assert field.default is None
        assert read is not None
    else:
        assert read == field.default
    assert not isinstance(read, SecretStr)


def test_every_command_that_is_written_about_exists() -> None:
    for path in FILES:
        for name, options in re.findall(
            r"(?:`|bin/|exec voucher-sync )voucher-sync ([a-z]+)((?: --[a-z-]+)*)", path.read_text()
        ):
            known = {option for parameter in command_named(name).params for option in parameter.opts}
            assert set(options.split()) <= known, f"{path.name}: {name}{options}"


def command_named(name: str) -> click.Command:
    assert name in voucher_sync.commands, f"there is no `voucher-sync {name}`"
    return voucher_sync.commands[name]


def test_the_check_of_commands_sees_them() -> None:
    assert re.search(r"exec voucher-sync voucher-sync check", README)
    assert re.search(r"`voucher-sync status --healthy`", README)


@pytest.mark.parametrize("name", ["compose.yaml", "voucher-sync.service", "voucher-sync.env.example"])
def test_what_refers_to_the_instructions_finds_them(name: str) -> None:
    assert "README.md" in (DEPLOY / name).read_text()


def shell_blocks() -> list[str]:
    return re.findall(r"(?ms)^```sh\n(.*?)^```$", README)


def test_the_instructions_commands_are_sound_shell(tmp_path: Path) -> None:
    shellcheck = needs("shellcheck")
    blocks = shell_blocks()
    assert len(blocks) > 10
    scripts = []
    for number, block in enumerate(blocks):
        script = tmp_path / f"block-{number}.sh"
        script.write_text(f"#!/bin/bash\nset -e\n{block}")
        scripts.append(str(script))

    done = command(shellcheck, "--color=never", *scripts)

    assert done.returncode == 0, done.stdout


def test_the_instructions_name_only_files_that_exist() -> None:
    made_by_the_operator = {"deploy/voucher-sync.env", "deploy/.env"}
    for name in set(re.findall(r"\bdeploy/[\w./-]*\w", README)) - made_by_the_operator:
        assert (DEPLOY.parent / name).exists(), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_holds_what_must_stay_out_of_the_repository(path: Path) -> None:
    text = path.read_text()

    # With brackets, so that this line is none of those that it looks for.
    assert not re.search(r"(?i)index-url|find-links|/roo[t]/|(?<![\w/])/wor[k]/", text)
    assert not re.search(r"[0-9A-F]{32}-[0-9A-F]{32}", text), "a token of the API"
