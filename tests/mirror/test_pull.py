"""An incremental pull reads what is new, with few calls, and writes nothing where there is nothing to write."""

from datetime import timedelta

import pytest

from sync.demo.simulator import Operation
from tests.support.flows import footprint, ids, interval, later, mirrored, numbered, watermarks
from tests.support.mirror import OVERLAP, Mirror

SECOND = timedelta(seconds=1)


@pytest.mark.sampled
@pytest.mark.parametrize("overlap_s", [30, 120, 600])
async def test_a_pull_reaches_back_behind_the_watermark_by_the_overlap(mirror: Mirror, overlap_s: int) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["A"])
    await mirror.once()
    through = (await watermarks(mirror))[voucher.id]
    mirror.clock.advance(timedelta(minutes=30))
    await mirror.discover()
    await mirror.pull(overlap=timedelta(seconds=overlap_s))
    start, end = interval(mirror.requests()[-1])
    assert start == through - timedelta(seconds=overlap_s)
    assert mirror.world.now() - 2 * SECOND <= end <= mirror.world.now()


@pytest.mark.long
async def test_a_code_that_comes_to_light_within_the_overlap_is_found(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["A"])
    await mirror.once()
    through = (await watermarks(mirror))[voucher.id]
    for age in (OVERLAP, OVERLAP - SECOND, SECOND):
        mirror.world.add_codes(voucher.id, [f"late by {age}"], created_utc=through - age, updated_utc=through - age)
    assert (await later(mirror)).written == 3
    assert (await mirror.compare()).is_equal


async def test_new_edited_and_deleted_codes_are_mirrored_by_the_next_pull(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    edited, deleted, *_ = mirror.add_codes(voucher, numbered(10))
    await mirror.once()
    mirror.world.edit_code(edited.id, value="EDITED", validity_end_utc=mirror.world.now() + timedelta(days=9))
    mirror.world.delete_code(deleted.id)
    mirror.world.add_codes(voucher.id, ["NEW", None])
    assert (await later(mirror)).written == 4
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_2001_vouchers_take_three_calls_when_nothing_is_new(mirror: Mirror) -> None:
    for number in range(2001):
        mirror.add_voucher(f"Voucher {number}", days_old=1)
    await mirror.once()
    before = len(mirror.requests())
    report = await later(mirror)
    records = mirror.requests()[before:]
    assert (len(records), report.pages, report.windows_done) == (3, 3, 3)
    assert sorted(len(ids(record)) for record in records) == [1, 1000, 1000]
    assert set().union(*map(ids, records)) == set(mirror.world.vouchers)


async def test_a_quiet_pull_writes_nothing_at_all(mirror: Mirror) -> None:
    for number in range(30):
        mirror.add_codes(mirror.add_voucher(f"Voucher {number}"), numbered(30, f"{number}"))
    await mirror.once()
    before = await footprint(mirror)
    for seconds in (2, 60, 3600, 86400):
        report = await later(mirror, seconds)
        assert (report.written, report.caught_up is not None) == (0, True)
    assert await footprint(mirror) == before


@pytest.mark.long
async def test_codes_read_again_unchanged_write_nothing(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["A"])
    await mirror.once()
    mirror.world.add_codes(voucher.id, numbered(500, "NEW"))
    await later(mirror)
    before = await footprint(mirror)
    report = await later(mirror)
    assert (report.codes, report.written) == (500, 0)
    assert await footprint(mirror) == before


@pytest.mark.long
async def test_1000_changes_by_others_take_one_cycle_and_few_calls(mirror: Mirror) -> None:
    vouchers = [mirror.add_voucher(f"Voucher {number}", days_old=9) for number in range(200)]
    codes = [code for one in vouchers for code in mirror.add_codes(one, numbered(10, one.name))]
    await mirror.once()
    for number, voucher in enumerate(vouchers):
        mirror.world.add_codes(voucher.id, [f"NEW-{number}", f"{number}-NEW"])
    for code in codes[::5]:
        mirror.world.edit_code(code.id, validity_end_utc=mirror.world.now())
    for code in codes[1::10]:
        mirror.world.delete_code(code.id)
    before = len(mirror.requests())
    report = await later(mirror)
    assert (await mirror.compare()).is_equal
    assert report.written == 1000
    pages_of_changes = 1
    assert len(mirror.requests()) - before <= pages_of_changes + 2


async def test_a_pull_asks_only_for_codes(mirror: Mirror) -> None:
    mirror.add_codes(mirror.add_voucher(), ["A"])
    await mirror.once()
    before = len(mirror.simulator.requests)
    await mirror.pull()
    assert {one.operation for one in list(mirror.simulator.requests)[before:]} == {Operation.GET_CODES}


async def test_the_watermark_follows_what_was_read_and_no_further(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["A"])
    await mirror.once()
    mirror.world.add_codes(voucher.id, ["B"])
    await later(mirror)
    assert (await watermarks(mirror))[voucher.id] == interval(mirror.requests()[-1])[1]


async def test_a_report_says_through_when_the_mirror_has_caught_up(mirror: Mirror) -> None:
    voucher = mirror.add_voucher(days_old=500)
    mirror.add_codes(voucher, ["A"])
    report = await mirror.once()
    assert report.caught_up is not None
    assert interval(mirror.requests()[-1])[1] == report.caught_up.through.replace(microsecond=0)
    assert report.windows_done == report.windows_planned


async def test_a_staler_version_read_late_never_replaces_a_fresher_one(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    (code,) = mirror.add_codes(voucher, ["A"])
    await mirror.once()
    mirror.world.edit_code(code.id, value="FRESH")
    await later(mirror)
    stale = mirror.world.now() - timedelta(seconds=60)
    mirror.world.edit_code(code.id, value="STALE", updated_utc=stale)
    await later(mirror)
    (row,) = await mirror.rows("SELECT value FROM mews.voucher_codes")
    assert row["value"] == "FRESH"


async def test_a_second_change_within_one_second_wins_over_the_first(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    (code,) = mirror.add_codes(voucher, ["A"])
    await mirror.once()
    edited = mirror.world.edit_code(code.id, value="FIRST")
    await later(mirror)
    mirror.world.edit_code(code.id, value="SECOND", updated_utc=edited.updated_utc)
    await later(mirror)
    assert (await mirror.compare()).is_equal


async def test_a_hotel_without_vouchers_is_caught_up_at_once(mirror: Mirror) -> None:
    report = await mirror.once()
    assert (report.pages, report.windows_planned, await mirrored(mirror)) == (0, 0, set())
    assert report.caught_up is not None


@pytest.mark.long
async def test_a_quiet_pull_after_a_large_import_writes_nothing(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    await mirror.once()
    mirror.world.add_codes(voucher.id, numbered(1500))
    await later(mirror)
    before = await footprint(mirror)
    assert (await later(mirror)).written == 0
    assert await footprint(mirror) == before
