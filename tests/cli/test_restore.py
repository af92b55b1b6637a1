"""A database that was restored or copied: nothing twice, and nothing that was taken back (invariant 14)."""

import json
from collections import Counter
from pathlib import Path

import pytest

from sync.demo.simulator import Close, Operation
from tests.cli.test_lost_commits import made, statuses
from tests.support.dump import copy_of, dump, restore
from tests.support.mirror import Mirror
from tests.support.outbox import A_WHILE, Outbox

from .conftest import SHOWN_SOON, Cli

pytestmark = pytest.mark.long

ADDS, CANCELLED, DELETES = 60, 10, 20
ELSEWHERE = "UPDATE sync.incarnation SET database_oid = 1"
"""As in a restored database."""
QUEUE = (
    "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) SELECT :operation, :voucher, unnest(:values)"
)
CANCEL = "UPDATE mews.voucher_code_outbox SET status = 'cancelled' WHERE operation = 'add' AND value = ANY (:values)"
NEW = [f"NEW-{number:02}" for number in range(ADDS)]
OLD = [f"OLD-{number:02}" for number in range(DELETES)]


async def queue_all(mirror: Mirror, cli: Cli) -> None:
    """Mirrors the hotel with the codes that are to be deleted, then queues every change."""
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, OLD)
    assert (await cli("once", settings=mirror.environment)).code == 0
    for operation, values in (("add", NEW), ("delete", OLD)):
        await mirror.execute(QUEUE, operation=operation, voucher=voucher.id, values=values)


async def lose_what_was_done(mirror: Mirror, cli: Cli, path: Path) -> None:
    """Dumps, cancels ten adds, has the rest made, and puts the dump in the database's place."""
    mirror.simulator.behaviour.allow_duplicates = True
    await queue_all(mirror, cli)
    dump(mirror.database_url, path)
    await mirror.execute(CANCEL, values=NEW[:CANCELLED])
    assert (await cli("once", settings=mirror.environment)).code == 0
    await mirror.connection.engine.dispose()
    restore(mirror.database_url, path)


async def test_a_restored_dump_makes_nothing_twice_and_nothing_that_was_taken_back(
    cli: Cli, database_url: str, tmp_path: Path
) -> None:
    mirror = Mirror(database_url)
    async with mirror.opened():
        await lose_what_was_done(mirror, cli, tmp_path / "dump")
        ended = await cli("once", settings=mirror.environment)
        status = await cli("status", settings=mirror.environment)
        assert (status.code, "Waiting to be adopted" in status.stdout) == (1, True)
        assert made(mirror) == Counter(NEW[CANCELLED:])
    assert (ended.code, "voucher-sync adopt" in ended.stderr) == (1, True)
    assert mirror.simulator.violations == []


async def test_adopt_proves_what_stands_and_leaves_the_rest_held_until_it_is_told(
    cli: Cli, database_url: str, tmp_path: Path
) -> None:
    mirror = Mirror(database_url)
    async with mirror.opened():
        await lose_what_was_done(mirror, cli, tmp_path / "dump")
        shown = await cli("adopt", "--show", "--json", settings=mirror.environment | SHOWN_SOON)
        assert (shown.code, json.loads(shown.stdout)["left"]) == (1, {"adds": CANCELLED, "deletes": 0})
        assert await statuses(mirror) == {"done": ADDS - CANCELLED + DELETES, "held": CANCELLED}
        told = await cli("adopt", "--cancel", "--json", settings=mirror.environment | SHOWN_SOON)
        assert (told.code, json.loads(told.stdout)["adopted"]) == (0, True)
        assert (await cli("once", settings=mirror.environment)).code == 0
        assert await statuses(mirror) == {"done": ADDS - CANCELLED + DELETES, "cancelled": CANCELLED}
        assert made(mirror) == Counter(NEW[CANCELLED:])


@pytest.mark.parametrize("options", [[], ["--release"]])
async def test_what_adopt_releases_is_made_once(
    cli: Cli, database_url: str, tmp_path: Path, options: list[str]
) -> None:
    mirror = Mirror(database_url)
    async with mirror.opened():
        await lose_what_was_done(mirror, cli, tmp_path / "dump")
        told = await cli("adopt", *options, settings=mirror.environment | SHOWN_SOON)
        assert (told.code, f"{CANCELLED} released" in told.stdout) == (0, True)
        assert "Waiting for 1.5 s, until the API must show what was sent last." in told.stderr
        assert (await cli("once", settings=mirror.environment)).code == 0
        assert made(mirror) == Counter(NEW)
        assert await statuses(mirror) == {"done": ADDS + DELETES}
        again = await cli("adopt", "--json", settings=mirror.environment)
        assert (again.code, json.loads(again.stdout)["done"]) == (0, 0)


async def test_a_copy_pushes_nothing_and_the_original_goes_on(cli: Cli, database_url: str, tmp_path: Path) -> None:
    mirror = Mirror(database_url)
    async with mirror.opened():
        await queue_all(mirror, cli)
        with copy_of(database_url, tmp_path / "dump") as other:
            of_copy = await cli("once", settings=mirror.environment | {"DATABASE_URL": other})
            assert (of_copy.code, made(mirror)) == (1, Counter(OLD))
            assert (await cli("once", settings=mirror.environment)).code == 0
            assert (await cli("once", settings=mirror.environment | {"DATABASE_URL": other})).code == 1
        assert made(mirror) == Counter(NEW)


async def test_a_dump_moved_on_purpose_is_asked_about_once(cli: Cli, database_url: str, tmp_path: Path) -> None:
    mirror = Mirror(database_url)
    async with mirror.opened():
        await queue_all(mirror, cli)
        with copy_of(database_url, tmp_path / "dump") as other:
            moved = mirror.environment | {"DATABASE_URL": other}
            assert (await cli("adopt", "--release", settings=moved | SHOWN_SOON)).code == 0
            for _ in range(2):
                assert (await cli("once", settings=moved)).code == 0
        assert made(mirror) == Counter(NEW)


async def test_to_look_at_a_copy_adopts_it_not_even_where_nothing_waits(
    cli: Cli, database_url: str, tmp_path: Path
) -> None:
    mirror = Mirror(database_url)
    async with mirror.opened():
        mirror.add_voucher()
        assert (await cli("once", settings=mirror.environment)).code == 0
        with copy_of(database_url, tmp_path / "dump") as other:
            of_copy = mirror.environment | {"DATABASE_URL": other}
            shown = await cli("adopt", "--show", settings=of_copy)
            assert (shown.code, "run `voucher-sync adopt`" in shown.stderr) == (1, True)
            assert (await cli("once", settings=of_copy)).code == 1
            assert (await cli("adopt", settings=of_copy)).code == 0
            assert (await cli("once", settings=of_copy)).code == 0


@pytest.mark.parametrize(("choice", "is_processed"), [("--cancel", True), ("--cancel", False), ("--keep", False)])
async def test_what_had_an_unknown_outcome_in_the_backup_is_looked_up_and_not_sent_behind_whoever_adopts_it(
    cli: Cli, mirror: Mirror, choice: str, *, is_processed: bool
) -> None:
    """It may have been found not to be done since, and taken back."""
    (voucher,) = mirror.world.vouchers.values()
    async with mirror.opened():
        outbox = Outbox(mirror)
        await outbox.refresh()
        await outbox.add(voucher, "NEW")
        mirror.simulator.faults.script(Operation.ADD_CODES, Close(processed=is_processed))
        await outbox.pusher.push()
        assert await outbox.statuses() == ["uncertain"]
        await mirror.execute(ELSEWHERE)
        mirror.clock.advance(A_WHILE)
        await outbox.be_due()
        adopted = await cli("adopt", choice, settings=mirror.environment | SHOWN_SOON)
        await cli("once", settings=mirror.environment | SHOWN_SOON)
        left = "cancelled" if choice == "--cancel" else "held"
        assert (adopted.code, await outbox.statuses()) == (0, ["done" if is_processed else left])
    assert len(mirror.requests(Operation.ADD_CODES)) == 1
