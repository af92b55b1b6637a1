"""What commands print with `--json` is what docs/reference/json.schema.json says, and all that tell have it."""

import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from jsonschema import Draft202012Validator

from sync.cli.commands import voucher_sync
from tests.cli.conftest import Cli
from tests.cli.outbox.helpers import add_row, write
from tests.support.documents import ROOT
from tests.support.mirror import Mirror
from tests.support.process import Ended
from tests.support.two_tokens import KEY

SCHEMA = json.loads((ROOT / "docs/reference/json.schema.json").read_text(encoding="utf-8"))
SUMMER = ("--voucher", "Summer")
TELLS_NOTHING = {"completion", "connections key", "demo", "outbox export", "run"}
"""Processes that go on, and what is in a form of its own."""


def commands(group: click.Group = voucher_sync, path: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


def test_every_command_that_tells_something_has_it_and_its_shape_is_known() -> None:
    with_json = {name for name, one in commands() if any("--json" in option.opts for option in one.params)}
    assert with_json == {name for name, _ in commands()} - TELLS_NOTHING == set(SCHEMA["commands"])


def errors(command: str, printed: str) -> list[str]:
    """How what a command has printed differs from its shape."""
    shape = SCHEMA["commands"][command] | {"$defs": SCHEMA["$defs"]}
    return [f"{one.json_path}: {one.message}" for one in Draft202012Validator(shape).iter_errors(json.loads(printed))]


def test_what_is_not_in_a_shape_or_misses_in_one_is_found() -> None:
    good = {"moved": 1, "status": "pending", "unmoved": {"7": "is done"}}
    assert errors("outbox retry", json.dumps(good)) == []
    for bad in (good | {"more": 1}, {"moved": 1}, good | {"moved": "1"}):
        assert errors("outbox retry", json.dumps(bad))


async def tell_of_many(tell: Callable[..., Awaitable[Any]], directory: Path) -> None:
    """Codes of a file and generated ones."""
    write(directory / "codes.csv", "value\nX-1\nX-2\n" + "Y" * 200)
    bad = await tell("outbox import", "codes.csv", *SUMMER, code=1)
    assert (bad["queued"], bad["bad_count"], bad["bad"][0]["line"]) == (0, 1, 4)
    assert (await tell("outbox import", "codes.csv", *SUMMER, "--skip-bad", "--forecast"))["forecast"]["codes"] == 2
    assert (await tell("outbox import", "codes.csv", *SUMMER, "--skip-bad"))["queued"] == 2
    made = ("--count", "3", "--pattern", "Z-######", "--output", "made.csv")
    assert (await tell("outbox generate", *SUMMER, *made, "--forecast"))["forecast"]["calls"] == 1
    assert (await tell("outbox generate", *SUMMER, *made))["output"] == "made.csv"


async def tell_of_connections(tell: Callable[..., Awaitable[Any]], mirror: Mirror, directory: Path) -> None:
    """One that is added, given another token, and removed again."""
    for name in ("old", "new"):
        mirror.world.add_token(f"the-{name}-token", name=name, enterprise_ids=[mirror.hotel.id])
        write(directory / name, f"the-{name}-token")
    write(directory / "hotels.csv", "name,access_token\n,x\n")
    assert (await tell("connections add", "lake", "--access-token-file", "old"))["changed"]
    assert (await tell("connections import", "hotels.csv", code=1))["bad"][0]["line"] == 2
    await tell("connections pause", "lake")
    assert (await tell("connections list"))["connections"][-1]["state"] == "paused"
    await tell("connections resume", "lake")
    assert (await tell("connections rotate", "lake", "--access-token-file", "new"))["hotels"] == 1
    assert (await tell("connections reencrypt"))["connections"] == 1
    assert (await tell("connections remove", "lake", "--purge", "--yes"))["deleted"] == 0


@pytest.mark.long
async def test_each_command_prints_its_shape(cli: Cli, mirror: Mirror, tmp_path: Path) -> None:
    seen = set[str]()

    async def tell(command: str, *arguments: str, code: int = 0) -> Any:
        ended: Ended = await cli(
            *command.split(), *arguments, "--json", settings=mirror.environment | {"SYNC_SECRET_KEY": KEY}
        )
        assert (ended.code, ended.stdout.count("\n")) == (code, 1), ended
        assert errors(command, ended.stdout) == []
        seen.add(command)
        return json.loads(ended.stdout)

    async with mirror.opened():
        await tell("migrate")
        assert (await tell("once"))["pulled"]["codes"] == 3
        for command in ("status", "check", "roles", "vouchers", "audit", "adopt"):
            await tell(command)
        await tell("outbox add", *SUMMER, "NEW", "--to", "2027-01-01")
        await tell("outbox delete", *SUMMER, "A")
        assert [row["operation"] for row in (await tell("outbox replace", *SUMMER, "B", "BB"))["rows"]] == [
            "add",
            "delete",
        ]
        await tell("outbox extend", *SUMMER, "C", "--to", "2027-01-01")
        await tell_of_many(tell, tmp_path)
        failed, held = (add_row(mirror.database_url, value, value) for value in ("failed", "held"))
        assert {row["status"] for row in (await tell("outbox list", "--values"))["rows"]} >= {"failed", "held"}
        assert len((await tell("outbox list", "--code", "A"))["mirrored"]) == 1
        assert (await tell("outbox reasons"))["reasons"]
        assert (await tell("outbox show", str(failed)))["attempt_log"] == []
        await tell("outbox release", str(held), str(failed), code=1)
        await tell("outbox retry", str(failed))
        await tell("outbox cancel", "--all")
        await tell("erase", "A")
        await tell("audit", "--repair")
        await tell_of_connections(tell, mirror, tmp_path)
    assert seen == set(SCHEMA["commands"])


@pytest.mark.parametrize("command", ["outbox show", "outbox list"])
async def test_an_error_prints_no_json(cli: Cli, unreachable_url: str, command: str) -> None:
    arguments = ("1",) if command == "outbox show" else ()
    ended = await cli(*command.split(), *arguments, "--json", settings={"DATABASE_URL": unreachable_url})
    assert (ended.code, ended.stdout) == (1, "")
    assert ended.stderr.startswith("Error: ")
