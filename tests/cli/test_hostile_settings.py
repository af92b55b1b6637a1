"""Every command works in a database whose settings are all set as nobody would, and behind a pooler of transactions."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from sync.demo.simulator import Voucher
from tests.support.hostile import make_database_hostile, make_database_kind, new_owner
from tests.support.mirror import ACCESS_TOKEN, Mirror
from tests.support.pooler import needs_pgbouncer, pooled

from .conftest import Cli

QUEUE = """
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, validity_start_utc)
VALUES ('add', :voucher, 'NEW', '2026-02-01 00:00+00'), ('delete', :voucher, 'OLD', NULL)
"""


@contextmanager
def hostile(database_url: str, *, is_pooled: bool) -> Iterator[str]:
    """The URL for the database's owner, where every setting is hostile; still an empty database."""
    with new_owner(database_url) as own:
        make_database_hostile(database_url)
        try:
            if is_pooled:
                with pooled(own) as url:
                    yield url
            else:
                yield own
        finally:
            make_database_kind(database_url)


@pytest.fixture(params=[False, pytest.param(True, marks=needs_pgbouncer)], ids=["direct", "pooled"])
def hostile_url(request: pytest.FixtureRequest, empty_database_url: str, template: str) -> Iterator[str]:
    """The same, directly or behind a pooler; with `template` the server has the roles, which the owner may not make."""
    with hostile(empty_database_url, is_pooled=request.param) as url:
        yield url


@pytest.fixture
async def hotel(hostile_url: str, cli: Cli) -> AsyncIterator[tuple[Mirror, Voucher]]:
    """A hotel with a code, and the database migrated under these settings."""
    mirror = Mirror(hostile_url)
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["OLD", "Zoë ☃"])
    async with mirror.opened():
        ended = await cli("migrate", settings=mirror.environment)
        assert (ended.code, ended.stderr) == (0, "")
        yield mirror, voucher


@pytest.mark.long
async def test_once_mirrors_and_pushes(cli: Cli, hotel: tuple[Mirror, Voucher]) -> None:
    mirror, voucher = hotel
    await mirror.execute(QUEUE, voucher=voucher.id)
    for command in (["once"], ["once"]):
        ended = await cli(*command, settings=mirror.environment)
        assert ended.code == 0, ended
        mirror.clock.advance(timedelta(seconds=1))  # what changed in the present second, the pull after the next reads
    assert [row["status"] for row in await mirror.rows("SELECT status FROM mews.voucher_code_outbox")] == ["done"] * 2
    (added,) = [code for code in mirror.world.codes_visible_to(ACCESS_TOKEN).values() if code.value == "NEW"]
    assert added.validity_start_utc is not None
    assert added.validity_start_utc.isoformat() == "2026-02-01T00:00:00+00:00"
    assert (await mirror.compare()).is_equal
    assert mirror.simulator.violations == []


@pytest.mark.long
async def test_so_do_the_other_commands(cli: Cli, hotel: tuple[Mirror, Voucher]) -> None:
    mirror, voucher = hotel
    queue = ["outbox", "add", "--voucher", str(voucher.id), "NEW"]
    for command in (["once"], queue, ["check"], ["audit"]):
        ended = await cli(*command, settings=mirror.environment)
        assert ended.code == 0, (command, ended)
