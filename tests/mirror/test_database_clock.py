"""Where the database's clock went back, what was noted before lies in its future, and waits for no step."""

from datetime import timedelta

import pytest

from sync.audit.run import audit
from sync.core.errors import AuditRunning
from sync.demo.simulator import Operation
from sync.mirror import upsert
from sync.postgres.engine import in_transaction
from tests.support.flows import REPAIR, add_hotel, add_voucher_to, ids, later, numbered
from tests.support.mirror import ACCESS_TOKEN, Mirror

BACK = "UPDATE sync.skipped SET since = since + interval '1 hour', until = until + interval '1 hour'"


async def test_what_was_refused_is_asked_for_anew(mirror: Mirror) -> None:
    bar = mirror.world.add_service(mirror.hotel.id, "Bar", carries_vouchers=False)
    await mirror.discover()
    await mirror.execute(BACK)
    for is_asked in (True, False):
        before = len(mirror.requests(Operation.GET_VOUCHERS))
        await mirror.discover()
        asked = mirror.requests(Operation.GET_VOUCHERS)[before:]
        assert any(bar.id in ids(one, "ServiceIds") for one in asked) is is_asked


@pytest.mark.long
async def test_what_is_listed_again_is_read(mirror: Mirror) -> None:
    hotel, stay = add_hotel(mirror, "Hotel B")
    voucher = add_voucher_to(mirror, stay)
    await mirror.once()
    mirror.world.withdraw(ACCESS_TOKEN, hotel.id)
    await later(mirror)
    mirror.world.grant(ACCESS_TOKEN, hotel.id)
    await mirror.discover()
    await mirror.execute("UPDATE sync.skipped SET until = until + interval '1 hour'")
    mirror.world.add_codes(voucher.id, ["NEW"])
    await later(mirror)
    assert (await mirror.compare()).is_equal


@pytest.mark.parametrize(("ahead", "is_alive"), [("299 s", True), ("1 day", False)])
async def test_an_audit_whose_owner_was_last_heard_in_the_future_is_taken_over(
    mirror: Mirror, ahead: str, is_alive: bool
) -> None:
    mirror.add_codes(mirror.add_voucher(), numbered(3))
    await mirror.once()
    await mirror.execute(
        "INSERT INTO sync.audits (connection, owner, alive_until) "
        "VALUES ('default', gen_random_uuid(), now() + CAST(:ahead AS text)::interval)",
        ahead=ahead,
    )
    if is_alive:
        with pytest.raises(AuditRunning):
            await audit(mirror.connection, REPAIR)
    else:
        await audit(mirror.connection, REPAIR)
        assert await mirror.rows("SELECT FROM sync.audits WHERE finished_at IS NULL") == []


async def test_what_was_deleted_is_read_back(mirror: Mirror) -> None:
    (code,) = mirror.add_codes(mirror.add_voucher(), ["A"])
    await mirror.once()
    engine, name = mirror.connection.engine, mirror.connection.name
    await in_transaction(engine, lambda tx: upsert.note_deleted(tx, [code.id]))
    for ahead, is_due in (("10 s", False), ("1 hour", True)):
        await mirror.execute(
            "UPDATE mews.voucher_codes SET delete_noted_at = now() + CAST(:ahead AS text)::interval", ahead=ahead
        )
        noted = await in_transaction(engine, lambda tx: upsert.noted_deletes(tx, name, timedelta(seconds=15)))
        assert [one for one, _ in noted] == [code.id] * is_due
