"""What the database refuses of hotels, services, vouchers and assignments keeps nothing else from being mirrored."""

import pytest

from sync.core.errors import StatementRefused
from tests.support.flows import add_hotel, add_voucher_to, mirrored
from tests.support.guards import aside, put
from tests.support.mirror import Mirror

CONSTRAINT = "ALTER TABLE mews.{} ADD CONSTRAINT guard CHECK (name <> 'BAD')"


@pytest.mark.long
@pytest.mark.parametrize(("table", "kind"), [("enterprises", "Enterprises"), ("services", "Services")])
async def test_what_hangs_on_it_is_mirrored_all_the_same(mirror: Mirror, table: str, kind: str) -> None:
    hotel, _ = add_hotel(mirror, "BAD")
    service = mirror.world.add_service(hotel.id, "BAD")
    codes = mirror.add_codes(add_voucher_to(mirror, service), ["A"])
    await put(mirror, [CONSTRAINT.format(table)])
    await mirror.once()
    assert await mirrored(mirror) == {code.id for code in codes}
    assert await aside(mirror, kind) == [f"23514: CheckViolation, constraint guard of mews.{table}"]
    assert await mirror.rows(f"SELECT FROM mews.{table} WHERE name = 'BAD'") == []
    await put(mirror, [f"ALTER TABLE mews.{table} DROP CONSTRAINT guard"])
    mirror.connection.refusals.forget()
    await mirror.once()
    assert await aside(mirror, kind) == []


@pytest.mark.long
async def test_a_voucher_stands_there_bare_and_its_codes_are_mirrored(mirror: Mirror) -> None:
    good, bad = mirror.add_voucher("GOOD"), mirror.add_voucher("BAD")
    codes = [*mirror.add_codes(good, ["A"]), *mirror.add_codes(bad, ["B"])]
    await put(mirror, [CONSTRAINT.format("vouchers")])
    await mirror.once()
    assert await mirrored(mirror) == {code.id for code in codes}
    names = await mirror.rows("SELECT name FROM mews.vouchers ORDER BY name NULLS LAST")
    assert [row["name"] for row in names] == ["GOOD", None]
    for _ in range(2):
        report = await mirror.discover()
        assert (report.rejected, report.written, report.unlisted) == (0, 0, [])
        assert await aside(mirror, "Vouchers") == ["23514: CheckViolation, constraint guard of mews.vouchers"]
    await put(mirror, ["ALTER TABLE mews.vouchers DROP CONSTRAINT guard"])
    mirror.connection.refusals.forget()
    assert (await mirror.discover()).written == 1
    assert await aside(mirror, "Vouchers") == []


@pytest.mark.long
async def test_the_assignments_of_a_voucher_are_set_aside_together(mirror: Mirror) -> None:
    rates = {}
    for name in ("Summer", "Winter", "Spring"):
        rate_ids = [mirror.world.new_id() for _ in range(2)]
        rates[mirror.world.add_voucher(mirror.service.id, name, rate_ids=rate_ids).id] = rate_ids
    bad = next(iter(rates))
    await put(mirror, [f"ALTER TABLE mews.voucher_assignments ADD CONSTRAINT guard CHECK (voucher_id <> '{bad}')"])
    await mirror.once()
    rows = await mirror.rows("SELECT voucher_id, rate_id FROM mews.voucher_assignments")
    assert {(row["voucher_id"], row["rate_id"]) for row in rows} == {
        (voucher_id, rate) for voucher_id, own in rates.items() for rate in own if voucher_id != bad
    }
    assert await aside(mirror, "VoucherAssignments") == [
        "23514: CheckViolation, constraint guard of mews.voucher_assignments"
    ]
    await put(mirror, ["ALTER TABLE mews.voucher_assignments DROP CONSTRAINT guard"])
    await mirror.discover()
    assert len(await mirror.rows("SELECT FROM mews.voucher_assignments")) == 6
    assert await aside(mirror, "VoucherAssignments") == []


async def test_what_refuses_every_voucher_is_a_failure(mirror: Mirror) -> None:
    mirror.add_voucher("A"), mirror.add_voucher("B")
    await put(mirror, ["ALTER TABLE mews.vouchers ADD COLUMN own text NOT NULL"])
    with pytest.raises(StatementRefused, match=r"refuses every INSERT of mews\.vouchers \(23502\): .* column own"):
        await mirror.discover()
    assert await aside(mirror, "Vouchers") == []
