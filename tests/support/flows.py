"""What the tests of the flows share: a look at the database, and hooks on the simulated API."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import UUID

from aiohttp import web

from sync.audit.context import AuditSettings
from sync.demo.simulator import Code, Enterprise, Operation, RequestRecord, Service, Voucher
from sync.demo.simulator.instants import position
from sync.demo.simulator.wire import code as shown_code
from sync.demo.simulator.wire import page as shown_page
from sync.mirror.pull_report import PullReport
from sync.postgres.engine import transaction
from sync.service import states
from tests.support.mirror import ACCESS_TOKEN, Mirror

Interval = tuple[datetime, datetime]
Row = Mapping[str, Any]

LOOK = AuditSettings(overlap=timedelta(seconds=1), max_loss=0.05, repair=False)
REPAIR = replace(LOOK, repair=True)


def numbered(count: int, prefix: str = "CODE") -> list[str]:
    """So many different values."""
    return [f"{prefix}-{number}" for number in range(count)]


def interval(record: RequestRecord) -> Interval:
    """The interval that a request for codes asked for."""
    assert record.body is not None
    return interval_of(record.body)


def interval_of(body: Mapping[str, Any]) -> Interval:
    """The interval that a body asks for."""
    updated = body["UpdatedUtc"]
    return datetime.fromisoformat(updated["StartUtc"]), datetime.fromisoformat(updated["EndUtc"])


def page_size(record: RequestRecord) -> int:
    """How many items a request asked for."""
    assert record.body is not None
    count: int = record.body["Limitation"]["Count"]
    return count


def ids(record: RequestRecord, parameter: str = "VoucherIds") -> set[UUID]:
    """The ids that a request named."""
    assert record.body is not None
    return {UUID(one) for one in record.body[parameter]}


async def later(mirror: Mirror, seconds: float = 2) -> PullReport:
    """Lets the API's time pass, so that what was changed lies before its current second; then a full cycle."""
    mirror.clock.advance(timedelta(seconds=seconds))
    return await mirror.once()


async def pull_later(mirror: Mirror, seconds: float = 2) -> PullReport:
    """As `later`, but without the discovery that would notice what is no longer listed."""
    mirror.clock.advance(timedelta(seconds=seconds))
    mirror.connection.client.server_clock.observe(format_datetime(mirror.clock(), usegmt=True))
    return await mirror.pull()


async def note_caught_up(mirror: Mirror, report: PullReport) -> None:
    """Notes how far a pull has caught up, if it has, as a single cycle does."""
    if report.caught_up:
        async with transaction(mirror.connection.engine) as tx:
            await states.note_caught_up(tx, mirror.connection.name, report.caught_up)


async def watermarks(mirror: Mirror) -> dict[UUID, datetime]:
    """How far each voucher is mirrored."""
    rows = await mirror.rows("SELECT voucher_id, complete_through FROM sync.watermarks")
    return {row["voucher_id"]: row["complete_through"] for row in rows}


async def open_windows(mirror: Mirror) -> dict[Interval, UUID | None]:
    """The windows that are not read to their end, and their cursors."""
    rows = await mirror.rows("SELECT * FROM sync.windows ORDER BY start_utc")
    return {(row["start_utc"], row["end_utc"]): row["cursor"] for row in rows}


async def skipped(mirror: Mirror) -> dict[UUID, Row]:
    """What is or was left out, by id."""
    return {row["id"]: row for row in await mirror.rows("SELECT * FROM sync.skipped")}


async def a_day_passes_for_refusals(mirror: Mirror) -> None:
    """Shifts what is left out by more than a day into the past."""
    await mirror.execute(
        "UPDATE sync.skipped SET since = since - interval '25 hours', until = until - interval '25 hours'"
    )


async def footprint(mirror: Mirror) -> set[tuple[object, ...]]:
    """Every row version of every table with what ever touched or locked it, and every sequence."""
    tables = await mirror.rows(
        "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname IN ('mews', 'sync')"
    )
    versions = " UNION ALL ".join(
        f"SELECT '{table['name']}', ctid::text, xmin::text, xmax::text FROM {table['name']}" for table in tables
    )
    sequences = "SELECT schemaname, sequencename, last_value::text, '' FROM pg_sequences"
    return {tuple(row.values()) for row in await mirror.rows(f"{versions} UNION ALL {sequences}")}


def add_hotel(mirror: Mirror, name: str, *, visible: bool = True) -> tuple[Enterprise, Service]:
    """Another hotel with a service; the token becomes a portfolio token, and sees it or not yet."""
    mirror.world.tokens[ACCESS_TOKEN].portfolio = True
    hotel = mirror.world.add_enterprise(name)
    if visible:
        mirror.world.grant(ACCESS_TOKEN, hotel.id)
    return hotel, mirror.world.add_service(hotel.id, "Stay")


def add_voucher_to(mirror: Mirror, service: Service, name: str = "Winter", *, days_old: float = 30) -> Voucher:
    """A voucher of another service."""
    return mirror.world.add_voucher(service.id, name, created_utc=mirror.clock() - timedelta(days=days_old))


def page_of(codes: Iterable[Code], *broken: str, cursor: UUID | None = None) -> bytes:
    """A body with these codes, and with records that are JSON texts of one's own."""
    shown = list(codes)
    body = shown_page({"VoucherCodes": [shown_code(one, "both") for one in shown]}, items=len(shown), cursor=cursor)
    if not broken:
        return body.body
    records = ",".join(broken)
    return body.body.replace(b"],", f"{',' if shown else ''}{records}],".encode(), 1)


def at_page(mirror: Mirror, number: int, act: Callable[[RequestRecord], None]) -> None:
    """Acts once, after the API has made up its `number`-th answer with codes from now and before that is sent."""
    left = number

    async def on_answer(record: RequestRecord) -> None:
        nonlocal left
        if record.operation is Operation.GET_CODES:
            left -= 1
            if left == 0:
                act(record)

    mirror.simulator.on_answer = on_answer


def fail_where(
    mirror: Mirror, is_concerned: Callable[[Mapping[str, Any]], bool], status: type[web.HTTPException]
) -> None:
    """Requests for codes whose body fulfils the condition end in an error status."""

    async def on_request(operation: Operation, body: Mapping[str, Any]) -> None:
        if operation is Operation.GET_CODES and is_concerned(body):
            raise status(text='{"Message": "Simulated fault"}', content_type="application/json")

    mirror.simulator.on_request = on_request


def answer_where(
    mirror: Mirror, is_concerned: Callable[[Mapping[str, Any]], bool], answer: Callable[[], bytes]
) -> None:
    """Requests for codes whose body fulfils the condition get a body of one's own, whatever they ask for."""

    async def on_request(operation: Operation, body: Mapping[str, Any]) -> None:
        if operation is Operation.GET_CODES and is_concerned(body):
            raise web.HTTPOk(text=answer().decode(), content_type="application/json")

    mirror.simulator.on_request = on_request


def on_pages(codes: Iterable[Code]) -> list[Code]:
    """Codes in the order of the API's pages, the newest first."""
    return sorted(codes, key=lambda code: position(code.updated_utc, code.id), reverse=True)


def turn(mirror: Mirror, requests: int) -> Callable[[], bool]:
    """A turn that is over after so many requests for codes from now."""
    ends_at = len(mirror.requests()) + requests
    return lambda: len(mirror.requests()) >= ends_at


async def mirrored(mirror: Mirror) -> set[UUID]:
    """The codes that stand in the mirror."""
    return {row["id"] for row in await mirror.rows("SELECT id FROM mews.voucher_codes")}


async def honest(mirror: Mirror, *, slack: timedelta = timedelta(), but: Collection[UUID] = ()) -> list[str]:
    """What is untrue about the watermarks, in a sentence each; nothing if they can be relied on.

    A watermark promises that each code of its voucher that was last changed before it stands in the mirror as it is,
    save for those that came to light less than `slack` before it, and that the server's clock has passed it. `but`:
    codes that it cannot know of.
    """
    truth = mirror.world.codes.truth.values()
    codes = [code for code in truth if code.updated_utc is not None and code.id not in but]
    missing = await mirror.rows(
        """
        SELECT code.id, code.updated_utc, complete_through
        FROM unnest(CAST(:ids AS uuid[]), CAST(:voucher_ids AS uuid[]), CAST(:updated AS timestamptz[]))
             AS code (id, voucher_id, updated_utc)
        JOIN sync.watermarks USING (voucher_id)
        LEFT JOIN mews.voucher_codes AS stored ON stored.id = code.id AND stored.updated_utc >= code.updated_utc
        WHERE code.updated_utc < complete_through - CAST(:slack AS interval) AND code.updated_utc >= mirrored_from
          AND stored.id IS NULL
        """,
        ids=[code.id for code in codes],
        voucher_ids=[code.voucher_id for code in codes],
        updated=[code.updated_utc for code in codes],
        slack=slack,
    )
    through = await watermarks(mirror)
    server_now = mirror.clock() + timedelta(seconds=mirror.simulator.behaviour.date_ahead_s)
    return [
        *(f"{row['id']} of {row['updated_utc']} is missing before {row['complete_through']}" for row in missing),
        *(f"{one} is complete beyond the server's clock" for one, end in through.items() if end > server_now),
    ]


def watch(mirror: Mirror, *, slack: timedelta = timedelta()) -> list[str]:
    """From now on looks at the watermarks at each answer, before other hooks act; the list fills with what is untrue.

    An assertion in a hook would only make the API answer 500.
    """
    found: list[str] = []
    then = mirror.simulator.on_answer

    async def on_answer(record: RequestRecord) -> None:
        found.extend(await honest(mirror, slack=slack))
        if then is not None:
            await then(record)

    mirror.simulator.on_answer = on_answer
    return found
