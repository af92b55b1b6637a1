"""Pages and windows: newest first, older than the cursor, inside the interval."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.demo.simulator import Code, Operation, RequestRecord
from sync.demo.simulator.instants import NEWEST, later_by_months, position, positions_between
from sync.demo.simulator.timeline import Timeline
from tests.simulator.helpers import START, Stage


async def read_all(stage: Stage, count: int, **properties: Any) -> list[list[str]]:
    """The values page by page, until the API says that there are no more."""
    pages: list[list[str]] = []
    cursor: object = ...
    while not pages or len(pages[-1]) == count:
        answer = (await stage.read(count=count, cursor=cursor, **properties)).json()
        pages.append([code["Value"] for code in answer["VoucherCodes"]])
        assert answer["Cursor"] == (answer["VoucherCodes"][-1]["Id"] if pages[-1] else None)
        cursor = answer["Cursor"]
    return pages


async def test_pages_run_from_the_newest_to_the_oldest_with_nulls_last(stage: Stage) -> None:
    for minutes in (3, 1, 2):
        stage.add(f"{minutes} minutes", minutes_ago=minutes)
    stage.world.add_codes(stage.voucher.id, ["never"], updated_utc=None)
    assert await read_all(stage, 3) == [["1 minutes", "2 minutes", "3 minutes"], ["never"]]
    assert stage.simulator.violations == []


async def test_equal_instants_are_ordered_by_id(stage: Stage) -> None:
    codes = stage.add(*(f"{number}" for number in range(25)))
    expected = [code.value for code in sorted(codes, key=lambda code: code.id, reverse=True)]
    pages = await read_all(stage, 10)
    assert [len(page) for page in pages] == [10, 10, 5]
    assert [value for page in pages for value in page] == expected


async def test_after_a_full_last_page_comes_an_empty_one_without_a_cursor(stage: Stage) -> None:
    stage.add("A", "B")
    assert [len(page) for page in await read_all(stage, 2)] == [2, 0]
    assert stage.simulator.violations == []


async def test_a_row_that_moves_up_between_two_pages_is_missed_by_them(stage: Stage) -> None:
    old, *_ = [stage.add(name, minutes_ago=minutes)[0] for minutes, name in ((4, "D"), (3, "C"), (2, "B"), (1, "A"))]

    async def edit_after_first_page(record: RequestRecord) -> None:
        if record.cursor_in is None:
            stage.time.advance(60)
            stage.world.edit_code(old.id, validity_end_utc=START)

    stage.simulator.on_answer = edit_after_first_page
    assert await read_all(stage, 2) == [["A", "B"], ["C"]]
    assert (await stage.values())[0] == "D"


async def test_a_cursor_stands_where_its_row_stands_now(stage: Stage) -> None:
    stage.add("C", minutes_ago=3)
    [middle] = stage.add("B", minutes_ago=2)
    stage.add("A", minutes_ago=1)
    assert await stage.values(count=2) == ["A", "B"]
    stage.world.edit_code(middle.id, validity_end_utc=START)
    assert await stage.values(count=2, cursor=str(middle.id)) == ["A", "C"]


async def test_a_cursor_newer_than_the_window_starts_the_window_over(stage: Stage) -> None:
    [moved, *_] = [stage.add(name, minutes_ago=minutes)[0] for minutes, name in ((10, "A"), (11, "B"), (12, "C"))]
    window = interval(START - timedelta(minutes=15), START - timedelta(minutes=5))
    assert await stage.values(count=1, UpdatedUtc=window) == ["A"]
    stage.world.edit_code(moved.id, validity_end_utc=START)
    assert await stage.values(count=2, cursor=str(moved.id), UpdatedUtc=window) == ["B", "C"]


async def test_on_request_can_move_rows_before_the_page_is_read(stage: Stage) -> None:
    stage.add("old", minutes_ago=5)
    seen: list[tuple[Operation, object]] = []

    async def add_one(operation: Operation, body: Any) -> None:
        seen.append((operation, body["Limitation"]))
        stage.add("new", minutes_ago=1)

    stage.simulator.on_request = add_one
    assert await stage.values() == ["new", "old"]
    assert seen == [(Operation.GET_CODES, {"Count": 1000})]


@pytest.mark.parametrize("reason", ["unknown", "hard-deleted", "out of scope"])
async def test_a_cursor_that_names_nothing_readable_is_invalid(stage: Stage, reason: str) -> None:
    [code] = stage.add("A")
    [foreign] = stage.world.add_codes(stage.other_voucher.id, ["B"])
    stage.world.hard_delete_code(code.id)
    cursor = {"unknown": uuid4(), "hard-deleted": code.id, "out of scope": foreign.id}[reason]
    answer = await stage.read(cursor=str(cursor))
    assert (answer.status_code, answer.json()["Message"]) == (400, "Invalid Cursor")


@pytest.mark.parametrize("operation", ["enterprises/getAll", "services/getAll", "vouchers/getAll"])
async def test_every_listing_is_paged(stage: Stage, operation: str) -> None:
    extra: dict[str, Any] = {}
    if operation == "vouchers/getAll":
        stage.world.add_voucher(stage.service.id, "Second")
        extra = {"Extent": {"Vouchers": True}, "ServiceIds": [str(stage.service.id)]}
    name = {"enterprises": "Enterprises", "services": "Services", "vouchers": "Vouchers"}[operation.partition("/")[0]]
    ids: list[str] = []
    cursor = None
    for _ in range(2):
        limitation = {"Count": 1, "Cursor": cursor}
        answer = (await stage.call(operation, token="the-portfolio-token", Limitation=limitation, **extra)).json()
        [record] = answer[name]
        ids.append(record["Id"])
        cursor = answer["Cursor"]
    assert ids == sorted(ids, reverse=True)
    wrong = await stage.call(operation, Limitation={"Count": 1, "Cursor": str(uuid4())}, **extra)
    assert (wrong.status_code, wrong.json()["Message"]) == (400, "Invalid Cursor")


def interval(start: datetime, end: datetime) -> dict[str, str]:
    return {"StartUtc": start.isoformat().replace("+00:00", "Z"), "EndUtc": end.isoformat().replace("+00:00", "Z")}


async def test_a_window_includes_its_start_and_excludes_its_end(stage: Stage) -> None:
    for minutes in (4, 3, 2, 1):
        stage.add(f"{minutes}", minutes_ago=minutes)
    stage.world.add_codes(stage.voucher.id, ["never"], updated_utc=None)
    window = interval(START - timedelta(minutes=3), START - timedelta(minutes=1))
    assert await stage.values(UpdatedUtc=window) == ["2", "3"]
    assert await read_all(stage, 1, UpdatedUtc=window) == [["2"], ["3"], []]


async def test_equal_start_and_end_filter_for_equality_and_are_noted(stage: Stage) -> None:
    for minutes in (3, 2, 1):
        stage.add(f"{minutes}", minutes_ago=minutes)
    moment = START - timedelta(minutes=2)
    assert await stage.values(UpdatedUtc=interval(moment, moment)) == ["2"]
    between = moment + timedelta(milliseconds=500)
    assert await stage.values(UpdatedUtc=interval(between, between)) == []
    assert len(stage.simulator.violations) == 2
    assert "equality" in stage.simulator.violations[0]


@pytest.mark.parametrize(
    ("start", "longest_end"),
    [
        ("2026-01-15T10:00:00", "2026-04-15T10:00:00"),
        ("2025-11-30T10:00:00", "2026-02-28T10:00:00"),
        ("2023-11-30T10:00:00", "2024-02-29T10:00:00"),
        ("2025-10-31T00:00:00", "2026-01-31T00:00:00"),
        ("2026-01-31T00:00:00", "2026-04-30T00:00:00"),
        ("2025-12-01T00:00:00", "2026-03-01T00:00:00"),
    ],
)
@pytest.mark.parametrize("operation", ["enterprises/getAll", "voucherCodes/getAll"])
async def test_a_window_spans_three_calendar_months_at_most(
    stage: Stage, operation: str, start: str, longest_end: str
) -> None:
    first, last = (datetime.fromisoformat(instant).replace(tzinfo=UTC) for instant in (start, longest_end))
    extra: dict[str, Any] = {"VoucherIds": [str(stage.voucher.id)]} if operation == "voucherCodes/getAll" else {}
    for end, status in ((last, 200), (last + timedelta(seconds=1), 400)):
        answer = await stage.call(operation, Limitation={"Count": 1}, UpdatedUtc=interval(first, end), **extra)
        assert answer.status_code == status
    assert len(stage.simulator.violations) == 1
    assert "3 months" in stage.simulator.violations[0]


async def test_other_listings_have_windows_too(stage: Stage) -> None:
    stage.world.add_enterprise("Hotel C", updated_utc=None)
    stage.world.grant("the-portfolio-token", next(reversed(stage.world.enterprises)))
    for start, found in ((START, 2), (START + timedelta(seconds=1), 0)):
        window = interval(start, START + timedelta(days=1))
        answer = await stage.call(
            "enterprises/getAll", token="the-portfolio-token", Limitation={"Count": 9}, UpdatedUtc=window
        )
        assert len(answer.json()["Enterprises"]) == found


def test_months_end_with_the_calendar() -> None:
    assert later_by_months(datetime(9999, 11, 1, tzinfo=UTC), 3) == datetime.max.replace(tzinfo=UTC)


INSTANTS = st.none() | st.integers(0, 5).map(lambda seconds: START + timedelta(seconds=seconds))
BOUNDS = st.integers(-1, 12).map(lambda halves: START + timedelta(seconds=halves / 2))
CODES = st.lists(st.tuples(st.integers(0, 2), INSTANTS), max_size=100)


@pytest.mark.long
@given(
    stock=CODES,
    moves=st.lists(st.tuples(st.integers(0, 99), INSTANTS), max_size=10),
    start=BOUNDS,
    end=BOUNDS,
    data=st.data(),
)
def test_a_timeline_reads_what_sorting_all_codes_would_give(
    stock: Sequence[tuple[int, datetime | None]],
    moves: Sequence[tuple[int, datetime | None]],
    start: datetime,
    end: datetime,
    data: st.DataObject,
) -> None:
    codes = {
        UUID(int=number): Code(id=UUID(int=number), voucher_id=UUID(int=1000 + voucher), updated_utc=updated)
        for number, (voucher, updated) in enumerate(stock)
    }
    timeline = Timeline()
    timeline.put(codes.values())
    for number, updated in moves:
        if (code := codes.get(UUID(int=number))) is not None:
            codes[code.id] = Code(id=code.id, voucher_id=code.voucher_id, updated_utc=updated)
            timeline.put([codes[code.id]])
    if codes:
        gone = data.draw(st.sampled_from(sorted(codes)))
        timeline.remove(gone)
        del codes[gone]
    low, high = positions_between(start, max(start, end))
    inside = [code for code in codes.values() if code.updated_utc and is_inside(code.updated_utc, start, end)]
    vouchers = [UUID(int=1000), UUID(int=1001)]
    for chosen, bounds in ((inside, (low, high)), (list(codes.values()), (0, NEWEST))):
        expected = sorted(
            (code for code in chosen if code.voucher_id in vouchers),
            key=lambda code: position(code.updated_utc, code.id),
            reverse=True,
        )
        for count in (1, 10, 1000):
            assert timeline.newest(vouchers, low=bounds[0], high=bounds[1], count=count) == expected[:count]


@pytest.mark.parametrize("number", [63, 64, 500])
def test_many_codes_at_once_take_their_places_among_those_that_are_there(number: int) -> None:
    voucher_id, rng, timeline = uuid4(), Random(number), Timeline()
    codes = [
        Code(id=UUID(int=one), voucher_id=voucher_id, updated_utc=START + timedelta(minutes=rng.randrange(100)))
        for one in range(2 * number)
    ]
    timeline.put(codes[:number])
    timeline.put(codes[number:])
    newest_first = sorted(codes, key=lambda code: position(code.updated_utc, code.id), reverse=True)
    assert timeline.newest([voucher_id], low=0, high=NEWEST, count=2 * number) == newest_first


def is_inside(updated: datetime, start: datetime, end: datetime) -> bool:
    return updated == start if end <= start else start <= updated < end
