"""A database of which a part went back, beside the rest as it was: nothing twice, nothing that was taken back."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from tests.cli.test_lost_commits import made, statuses
from tests.cli.test_restore import CANCEL, CANCELLED, NEW, queue_all
from tests.support.dump import dump, restore_part
from tests.support.mirror import Mirror

from .conftest import SHOWN_SOON, Cli

pytestmark = pytest.mark.long

EMPTY = "TRUNCATE mews.voucher_code_outbox {} CASCADE"


def schema_in_place(url: str, path: Path) -> None:
    restore_part(url, path, "--clean", "--schema=mews")


def schema_of_which_nothing_was_left(url: str, path: Path) -> None:
    execute(url, "DROP SCHEMA mews CASCADE; CREATE SCHEMA mews")
    restore_part(url, path, "--schema=mews")


def rows_of_outbox(url: str, path: Path) -> None:
    execute(url, EMPTY.format("CONTINUE IDENTITY"))
    restore_part(url, path, "--data-only", "--disable-triggers", "--table=voucher_code_outbox")


def rows_of_outbox_numbered_anew(url: str, path: Path) -> None:
    execute(url, EMPTY.format("RESTART IDENTITY"))
    restore_part(url, path, "--data-only", "--disable-triggers", "--table=voucher_code_outbox")


def execute(url: str, statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statements.encode())


@pytest.mark.parametrize(
    "restore", [schema_in_place, schema_of_which_nothing_was_left, rows_of_outbox, rows_of_outbox_numbered_anew]
)
async def test_what_was_queued_in_it_is_held_and_looked_up(
    cli: Cli, database_url: str, tmp_path: Path, restore: Callable[[str, Path], None]
) -> None:
    """An hour later, so that the codes that were made lie before all that a pull reads once more."""
    mirror = Mirror(database_url)
    async with mirror.opened():
        mirror.simulator.behaviour.allow_duplicates = True
        await queue_all(mirror, cli)
        path = dump(database_url, tmp_path / "dump")
        await mirror.execute(CANCEL, values=NEW[:CANCELLED])
        assert (await cli("once", settings=mirror.environment)).code == 0
        mirror.clock.advance(timedelta(hours=1))
        assert (await cli("once", settings=mirror.environment)).code == 0
        await mirror.connection.engine.dispose()
        restore(database_url, path)
        await cli("once", settings=mirror.environment)
        assert set(await statuses(mirror)) == {"held"}
        assert (await cli("adopt", "--cancel", settings=mirror.environment | SHOWN_SOON)).code == 0
        assert (await cli("once", settings=mirror.environment)).code == 0
        assert (await statuses(mirror))["cancelled"] == CANCELLED
        assert made(mirror) == Counter(NEW[CANCELLED:])
        assert (await mirror.compare()).is_equal


@pytest.mark.parametrize("identity", ["CONTINUE IDENTITY", "RESTART IDENTITY"])
async def test_what_is_queued_in_an_outbox_that_was_emptied_is_sent_as_ever(
    cli: Cli, database_url: str, identity: str
) -> None:
    mirror = Mirror(database_url)
    async with mirror.opened():
        await queue_all(mirror, cli)
        assert (await cli("once", settings=mirror.environment)).code == 0
        await mirror.execute(EMPTY.format(identity))
        voucher = next(iter(mirror.world.vouchers.values()))
        added = await cli("outbox", "add", "--voucher", str(voucher.id), "LATER", settings=mirror.environment)
        assert added.code == 0
        assert (await cli("once", settings=mirror.environment)).code == 0
        assert await statuses(mirror) == {"done": 1}
        assert (await cli("check", settings=mirror.environment)).code == 0


async def test_rows_of_a_dump_of_data_alone_in_a_database_that_is_new_are_held_and_looked_up(
    cli: Cli, database_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    """As somebody moves house: `migrate`, and then the rows, with triggers disabled since they refuse what is done."""
    mirror = Mirror(database_url)
    async with mirror.opened():
        mirror.simulator.behaviour.allow_duplicates = True
        await queue_all(mirror, cli)
        path = dump(database_url, tmp_path / "dump")
        await mirror.execute(CANCEL, values=NEW[:CANCELLED])
        assert (await cli("once", settings=mirror.environment)).code == 0
        mirror.clock.advance(timedelta(hours=1))
        moved = mirror.environment | {"DATABASE_URL": empty_database_url}
        assert (await cli("migrate", settings=moved)).code == 0
        restore_part(empty_database_url, path, "--data-only", "--disable-triggers", "--schema=mews")
        mirror.move_to(empty_database_url)
        async with mirror.connected():
            await cli("once", settings=moved)
            assert set(await statuses(mirror)) == {"held"}
            assert (await cli("adopt", "--cancel", settings=moved | SHOWN_SOON)).code == 0
            assert (await cli("once", settings=moved)).code == 0
            assert (await statuses(mirror))["cancelled"] == CANCELLED
            assert made(mirror) == Counter(NEW[CANCELLED:])
            assert (await mirror.compare()).is_equal
