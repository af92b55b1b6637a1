"""What is told of connections that nobody works for: of a removed one nothing but what waits for it still."""

from functools import partial
from typing import Any

import pytest

from sync.audit.run import audit
from sync.core.errors import VoucherSyncError
from sync.fleet import changes
from sync.fleet.purge import purge
from sync.mirror.discover import discover
from sync.mirror.pull import PullSettings, pull
from sync.postgres.engine import in_transaction, transaction
from sync.postgres.metadata import metadata
from sync.service import states
from sync.service.states import Standing
from sync.service.status import codes
from sync.service.status.facts import ConnectionStatus
from sync.service.status.load import load_status
from tests.outbox.database.test_hints import told
from tests.support.flows import REPAIR, add_voucher_to, numbered
from tests.support.mirror import OVERLAP, Mirror
from tests.support.two_tokens import second

GOING_ON = "SELECT connection FROM sync.outages WHERE ended_at IS NULL"


async def statuses(mirror: Mirror) -> list[ConnectionStatus]:
    async with transaction(mirror.connection.engine) as tx:
        return await load_status(tx)


async def names(mirror: Mirror) -> list[str]:
    return [one.name for one in await statuses(mirror)]


async def test_a_removed_connection_is_no_longer_told_of(mirror: Mirror) -> None:
    hotel = mirror.world.add_enterprise("Hotel B")
    service = mirror.world.add_service(hotel.id, "Stay")
    mirror.world.add_voucher(service.id, "V", created_utc=mirror.clock())
    async with second(mirror, "lake", [hotel.id]) as lake:
        await discover(lake)
        assert await names(mirror) == ["lake"]
        await in_transaction(lake.engine, lambda tx: changes.remove(tx, "lake"))
    assert await names(mirror) == []
    assert await mirror.rows("SELECT connection FROM mews.vouchers") == [{"connection": "lake"}]


async def test_what_a_removed_connection_has_mirrored_counts_for_no_other(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codes, "COUNTED_UP_TO_BYTES", 0)
    mirror.add_codes(mirror.add_voucher(), numbered(7))
    await mirror.once()
    hotel = mirror.world.add_enterprise("Hotel B")
    voucher = add_voucher_to(mirror, mirror.world.add_service(hotel.id, "Stay"))
    mirror.add_codes(voucher, numbered(3, "OF-B"))
    async with second(mirror, "lake", [hotel.id]) as lake:
        await discover(lake)
        await pull(lake, PullSettings(OVERLAP))
        await in_transaction(lake.engine, lambda tx: changes.remove(tx, "lake"))
    assert await mirror.rows("SELECT count(*) AS number FROM mews.voucher_codes") == [{"number": 10}]
    assert [(one.name, one.mirror.voucher_codes) for one in await statuses(mirror)] == [("default", 7)]


async def test_who_queues_for_a_removed_connection_is_told_at_once_and_in_the_row(mirror: Mirror) -> None:
    hotel = mirror.world.add_enterprise("Hotel B")
    voucher = mirror.world.add_voucher(mirror.world.add_service(hotel.id, "Stay").id, "V", created_utc=mirror.clock())
    changes_of_two = (
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) "
        f"VALUES ('add', '{voucher.id}', 'X%s'), ('delete', '{voucher.id}', 'Y%s')"
    )
    rows = "SELECT last_error FROM mews.voucher_code_outbox WHERE operation = 'add' ORDER BY id"
    async with second(mirror, "lake", [hotel.id]) as lake:
        await discover(lake)
        before = await told(mirror.database_url, changes_of_two % (1, 1))
        await mirror.execute("UPDATE mews.voucher_code_outbox SET status = 'cancelled'")
        await in_transaction(lake.engine, lambda tx: changes.remove(tx, "lake"))
        heard = await told(mirror.database_url, changes_of_two % (2, 2))
    assert not any("removed" in one for one in before)
    (warning,) = heard
    assert warning.startswith("connection lake was removed: 2 of the queued changes wait until it is added again")
    assert [row["last_error"] for row in await mirror.rows(rows)] == [
        None,
        "connection lake was removed: it waits until that is added again",
    ]


@pytest.mark.long
async def test_changes_that_are_queued_for_a_removed_connection_are_told_and_not_forgotten_by_a_purge(
    mirror: Mirror,
) -> None:
    hotel = mirror.world.add_enterprise("Hotel B")
    service = mirror.world.add_service(hotel.id, "Stay")
    voucher = mirror.world.add_voucher(service.id, "V", created_utc=mirror.clock())
    async with second(mirror, "lake", [hotel.id]) as lake:
        await discover(lake)
        await in_transaction(lake.engine, lambda tx: changes.remove(tx, "lake"))
        await mirror.execute(
            "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', :id, 'X')",
            id=voucher.id,
        )
        (status,) = await statuses(mirror)
        assert (status.name, status.is_removed, status.backlog.outbox["pending"]) == ("lake", True, 1)
        with pytest.raises(VoucherSyncError, match="not finished"):
            await purge(lake.engine, "lake")
        await mirror.execute("UPDATE mews.voucher_code_outbox SET status = 'cancelled'")
        assert await statuses(mirror) == []
        await purge(lake.engine, "lake")


async def test_a_purge_leaves_nothing_of_it_where_the_daemon_keeps_its_own(mirror: Mirror) -> None:
    hotel = mirror.world.add_enterprise("Hotel B")
    voucher = add_voucher_to(mirror, mirror.world.add_service(hotel.id, "Stay"))
    mirror.add_codes(voucher, numbered(3))
    async with second(mirror, "lake", [hotel.id]) as lake:
        await discover(lake)
        await pull(lake, PullSettings(OVERLAP))
        await audit(lake, REPAIR)
        # As an audit leaves them whose process was killed.
        await mirror.execute(
            "INSERT INTO sync.audit_pages (connection, listing, code_ids) VALUES ('lake', :id, '{}')", id=voucher.id
        )
        await in_transaction(lake.engine, lambda tx: changes.remove(tx, "lake"))
        await purge(lake.engine, "lake")
    of_connections = [table for table in metadata.sorted_tables if table.schema == "sync" and "connection" in table.c]
    left = {
        table.name: await mirror.rows(f"SELECT FROM {table.fullname} WHERE connection = 'lake'")
        for table in of_connections
    }
    assert [name for name, rows in left.items() if rows] == []
    assert len(left) >= 10


@pytest.mark.parametrize("end", [lambda tx: changes.pause(tx, "lake", "sold"), lambda tx: changes.remove(tx, "lake")])
async def test_an_outage_ends_where_nobody_tries_any_more_whether_it_goes_on(mirror: Mirror, end: Any) -> None:
    failing = partial(states.note, name="lake", standing=Standing("the API refuses the token", "Unauthorized"))
    hotel = mirror.world.add_enterprise("Hotel B")
    async with second(mirror, "lake", [hotel.id]) as lake:
        await in_transaction(lake.engine, failing)
        assert await mirror.rows("SELECT connection FROM sync.outages WHERE ended_at IS NULL") == [
            {"connection": "lake"}
        ]
        await in_transaction(lake.engine, end)
        await in_transaction(lake.engine, failing)  # what was under way
    assert await mirror.rows(GOING_ON) == []
