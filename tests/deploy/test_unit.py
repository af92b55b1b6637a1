"""What systemd is told of the daemon: how it starts, stops and is kept from harm."""

import re
from collections.abc import Iterator
from pathlib import Path

from sync.cli.commands import voucher_sync
from tests.deploy.helpers import DEPLOY, README, SECRETS, command, needs

DROP_INS = sorted((DEPLOY / "voucher-sync.service.d").iterdir())


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


def test_systemd_finds_nothing_wrong_with_what_many_hotels_need_beside_it(tmp_path: Path) -> None:
    systemd_analyze = needs("systemd-analyze")
    unit = tmp_path / "voucher-sync.service"
    text = (DEPLOY / "voucher-sync.service").read_text().replace("/opt/voucher-sync/bin/voucher-sync", "/bin/true")
    unit.write_text(text + "".join(path.read_text() for path in DROP_INS))

    done = command(systemd_analyze, "verify", "--man=no", str(unit))

    assert (done.returncode, done.stderr) == (0, "")


def test_what_many_hotels_need_is_handed_over_by_files_and_is_listened_for_on_this_machine_only() -> None:
    lines = [line for path in DROP_INS for line in path.read_text().splitlines() if line[:1] not in {"#", ""}]

    assert lines == [
        "[Service]",
        "LoadCredential=secret_key:/etc/voucher-sync/credentials/secret_key",
        "Environment=SYNC_SECRET_KEY_FILE=%d/secret_key",
        "[Service]",
        "LoadCredential=integration_secret:/etc/voucher-sync/credentials/integration_secret",
        "Environment=SYNC_INTEGRATION_SECRET_FILE=%d/integration_secret",
        "Environment=SYNC_INTEGRATION_BIND=127.0.0.1:8322",
    ]


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

    assert loaded == {name: f"/etc/voucher-sync/credentials/{name}" for name in SECRETS}
    assert named == {f"{name.upper()}_FILE": f"%d/{name}" for name in loaded}


def test_the_unit_runs_the_commands_that_exist() -> None:
    for line in (*service_setting("ExecStartPre"), *service_setting("ExecStart")):
        program, name = line.split()
        assert program == "/opt/voucher-sync/bin/voucher-sync"
        assert name in voucher_sync.commands


def test_a_command_by_hand_runs_as_the_service_does_with_its_state_directory() -> None:
    (block,) = (one for one in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if "systemd-run" in one)
    given = dict.fromkeys(re.findall(r"--property=(\S+)", block))
    shared = (
        "User",
        "DynamicUser",
        "StateDirectory",
        "StateDirectoryMode",
        "UMask",
        "EnvironmentFile",
        "LoadCredential",
    )

    # As root it would keep a witness of its own elsewhere, or leave files that the service cannot read.
    assert list(given) == [f"{name}={value}" for name in shared for value in service_setting(name)]
