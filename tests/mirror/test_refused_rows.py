"""What the database refuses of a row, for its users' own things, is set aside; its neighbours and the window go on."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from sqlalchemy import event

from sync.demo.simulator import Voucher
from tests.support.flows import footprint, honest, later, mirrored, numbered, open_windows, pull_later, watermarks
from tests.support.guards import ALWAYS, BAD, BEHIND_OURS, CHECK, GUARDS, UNDO, aside, put
from tests.support.mirror import Mirror

MANY = 100


async def refused_until_now(mirror: Mirror) -> Voucher:
    """The voucher of a code that was refused by what is gone since."""
    voucher = mirror.add_voucher()
    await mirror.once()
    await put(mirror, CHECK)
    mirror.world.add_codes(voucher.id, [BAD])
    await later(mirror)
    await put(mirror, UNDO)
    return voucher


def guards(table: dict[str, Sequence[str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("guard", table.values(), ids=table.keys())


@pytest.mark.sampled
@guards(GUARDS)
async def test_its_neighbours_and_the_watermark_go_on(mirror: Mirror, guard: Sequence[str]) -> None:
    voucher = mirror.add_voucher()
    await mirror.once()
    await put(mirror, guard)
    before = (await watermarks(mirror))[voucher.id]
    good = mirror.world.add_codes(voucher.id, numbered(20, "GOOD"))
    (bad,) = mirror.world.add_codes(voucher.id, [BAD])
    calls = len(mirror.requests())
    report = await later(mirror)
    assert {code.id for code in good} == await mirrored(mirror) & {code.id for code in [*good, bad]}
    assert (report.rejected, report.written, report.caught_up is not None) == (1, 20, True)
    assert (await open_windows(mirror), len(mirror.requests()) - calls) == ({}, 1)
    assert (await watermarks(mirror))[voucher.id] > before
    (row,) = await mirror.rows("SELECT * FROM sync.rejected_records")
    assert (row["record_id"], row["kind"], len(row["sqlstate"])) == (str(bad.id), "VoucherCodes", 5)
    assert row["reason"].startswith(f"{row['sqlstate']}: ")
    assert BAD not in row["reason"]


@pytest.mark.sampled
@guards(GUARDS | BEHIND_OURS)
async def test_a_change_that_is_refused_keeps_the_row_as_it_was(mirror: Mirror, guard: Sequence[str]) -> None:
    code, other = mirror.add_codes(mirror.add_voucher(), ["GOOD-1", "GOOD-2"])
    await mirror.once()
    await put(mirror, guard)
    mirror.world.edit_code(code.id, value=BAD)
    mirror.world.delete_code(other.id)
    report = await later(mirror)
    assert (report.rejected, report.written) == (1, 1)
    values = await mirror.rows("SELECT value FROM mews.voucher_codes WHERE id = :id", id=code.id)
    assert [row["value"] for row in values] == ["GOOD-1"]


@pytest.mark.sampled
@guards(ALWAYS)
@pytest.mark.parametrize("count", [1, 40])
async def test_what_refuses_every_row_is_a_failure_and_sets_nothing_aside(
    mirror: Mirror, guard: Sequence[str], count: int
) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, numbered(count, "S3CRET"))
    await mirror.discover()
    await put(mirror, guard)
    (error,) = (await mirror.pull()).errors
    assert "refuses every INSERT of mews.voucher_codes (" in str(error)
    assert "S3CRET" not in str(error)
    assert (await aside(mirror), len(mirror.requests())) == ([], 1)
    await put(mirror, UNDO)
    assert (await mirror.pull()).written == count
    assert await honest(mirror) == []


@pytest.mark.long
async def test_what_refuses_every_change_is_a_failure_although_new_rows_go_through(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    codes = mirror.add_codes(voucher, numbered(20))
    await mirror.once()
    await put(
        mirror, ["ALTER TABLE mews.voucher_codes REPLICA IDENTITY NOTHING", "CREATE PUBLICATION users FOR ALL TABLES"]
    )
    mirror.world.delete_code(codes[0].id)
    mirror.world.add_codes(voucher.id, numbered(20, "NEW"))
    (error,) = (await pull_later(mirror)).errors
    assert "refuses every UPDATE of mews.voucher_codes (55000)" in str(error)
    assert await honest(mirror) == []


@pytest.mark.long
async def test_half_a_page_that_is_refused_is_bounded_work(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, [*numbered(MANY, "GOOD"), *numbered(MANY, "BAD")])
    await mirror.discover()
    await put(mirror, ["ALTER TABLE mews.voucher_codes ADD CONSTRAINT guard CHECK (value LIKE 'GOOD%')"])
    transactions: list[object] = []
    event.listen(mirror.connection.shared_engine.sync_engine, "begin", transactions.append)
    report = await mirror.pull()
    assert (report.written, report.rejected, report.errors) == (MANY, MANY, [])
    assert len(mirror.requests()) == 2
    assert MANY < len(transactions) < 2 * 2 * MANY + 200


@pytest.mark.long
async def test_it_is_not_tried_again_at_every_pull_and_leaves_no_trace_then(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    await mirror.once()
    await put(mirror, CHECK)
    mirror.world.add_codes(voucher.id, [*numbered(5, "GOOD"), BAD])
    assert (await later(mirror)).rejected == 1
    before = await footprint(mirror)
    for _ in range(3):
        report = await later(mirror)
        assert (report.codes, report.written, report.rejected) == (6, 0, 0)
    assert await footprint(mirror) == before


@pytest.mark.long
async def test_it_is_taken_as_soon_as_the_code_is_another(mirror: Mirror) -> None:
    (code,) = mirror.add_codes(mirror.add_voucher(), [BAD])
    await put(mirror, CHECK)
    await mirror.once()
    mirror.world.edit_code(code.id, value="GOOD")
    assert (await later(mirror)).written == 1
    assert (await mirrored(mirror), await aside(mirror)) == ({code.id}, [])


@pytest.mark.long
async def test_another_process_tries_it_again_and_forgets_it_once_it_is_taken(mirror: Mirror) -> None:
    await refused_until_now(mirror)
    async with mirror.connected():
        assert (await later(mirror)).written == 1
    assert ((await mirror.compare()).is_equal, await aside(mirror)) == (True, [])


@pytest.mark.long
async def test_one_that_no_window_shows_any_more_is_tried_by_no_pull(mirror: Mirror) -> None:
    voucher = await refused_until_now(mirror)
    for number in range(2):
        mirror.clock.advance(timedelta(hours=1))
        mirror.world.add_codes(voucher.id, [f"GOOD-{number}"])
        assert (await later(mirror)).written == 1
    mirror.clock.advance(timedelta(hours=1))
    async with mirror.connected():
        assert (await later(mirror)).written == 0
    assert len(await aside(mirror)) == 1


@pytest.mark.long
async def test_two_codes_of_a_page_that_stand_in_each_others_way(mirror: Mirror) -> None:
    mirror.add_codes(mirror.add_voucher(), ["A", "B"])
    mirror.add_codes(mirror.add_voucher("Winter"), ["A", "C"])
    await put(mirror, ["CREATE UNIQUE INDEX guard ON mews.voucher_codes (value)"])
    report = await mirror.once()
    assert (report.written, report.rejected) == (3, 1)
    assert await aside(mirror) == ["23505: UniqueViolation, constraint guard of mews.voucher_codes"]
