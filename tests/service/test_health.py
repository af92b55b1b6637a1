"""What proves that the API is there ends what was not tried while it was away."""

import gc
import weakref

import psycopg
import pytest
import structlog

from sync.core.api_errors import CircuitOpen, NotConnected, ServerError, Unauthorized
from sync.core.errors import VoucherSyncError
from sync.service import health as module
from sync.service.health import Health
from tests.support.mirror import Mirror

OPERATION = "voucherCodes/getAll"
NO_ROOM = """
CREATE FUNCTION public.no_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER no_room BEFORE INSERT ON sync.outages FOR EACH ROW EXECUTE FUNCTION public.no_room()
"""


@pytest.mark.parametrize("job", ["discovery", "settle", "outbox"])
async def test_a_pull_ends_the_outage_of_what_was_not_tried(mirror: Mirror, job: str) -> None:
    health = Health(mirror.connection)
    await health.note(job, CircuitOpen(OPERATION, "nobody is answered"))
    await health.note("pull", NotConnected(OPERATION))
    assert (await mirror.rows("SELECT state FROM sync.connections")) == [{"state": "failing"}]
    await health.note("pull", None)
    assert health.errors == []
    assert (await mirror.rows("SELECT state FROM sync.connections")) == [{"state": "ok"}]


async def test_a_state_is_noted_where_its_outage_finds_no_place(mirror: Mirror) -> None:
    """As on a disk without room, where the first outage needs a page, and the connection's row has one."""
    health, refused = Health(mirror.connection), Unauthorized(OPERATION, status=401)
    await execute(mirror.database_url, NO_ROOM)
    try:
        await health.note("pull", refused)
        noted = await mirror.rows("SELECT state, (SELECT count(*) FROM sync.outages) AS outages FROM sync.connections")
    finally:
        await execute(mirror.database_url, "DROP FUNCTION public.no_room CASCADE")
    assert (noted, len(health.errors)) == ([{"state": "failing", "outages": 0}], 2)
    await health.note("pull", refused)
    assert [row["error"] for row in await mirror.rows("SELECT error FROM sync.outages")] == [str(refused)]
    assert health.errors == [refused]


async def execute(database_url: str, statement: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute(statement.encode())


async def test_what_a_job_was_refused_for_itself_stays(mirror: Mirror) -> None:
    health, refused = Health(mirror.connection), Unauthorized(OPERATION, status=401)
    await health.note("discovery", refused)
    await health.note("pull", None)
    assert health.errors == [refused]


async def test_a_failure_that_goes_on_for_another_reason_is_told_once(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CAUSE_LASTS_S", 0.0)
    health = Health(mirror.connection)
    with structlog.testing.capture_logs() as logs:
        for error in (
            ServerError(OPERATION, status=503),
            ServerError(OPERATION, status=502),
            CircuitOpen(OPERATION, "nobody is answered"),
            Unauthorized(OPERATION, status=401),
            Unauthorized(OPERATION, status=401),
            NotConnected(OPERATION),
            None,
        ):
            await health.note("pull", error)
    assert [line["event"] for line in logs] == ["failing", "fails_otherwise", "fails_otherwise", "recovered"]
    assert ["401" in logs[1]["error"], "cannot be reached" in logs[2]["error"]] == [True, True]


async def test_an_api_that_fails_in_several_ways_by_turns_does_not_fill_the_log(mirror: Mirror) -> None:
    health = Health(mirror.connection)
    with structlog.testing.capture_logs() as logs:
        for _ in range(20):
            await health.note("pull", ServerError(OPERATION, status=503))
            await health.note("pull", NotConnected(OPERATION))
    assert [line["event"] for line in logs] == ["failing"]


class _Large:
    """What a frame holds."""


def _fail(seen: list[weakref.ref[_Large]]) -> None:
    large = _Large()
    seen.append(weakref.ref(large))
    raise NotConnected(OPERATION) from TimeoutError()


async def test_a_failure_that_is_kept_keeps_nothing_of_what_met_it(mirror: Mirror) -> None:
    health, seen = Health(mirror.connection), list[weakref.ref[_Large]]()
    try:
        _fail(seen)
    except VoucherSyncError as error:
        await health.note("pull", error)
    gc.collect()
    assert [str(one) for one in health.errors] == [str(NotConnected(OPERATION))]
    assert [one() for one in seen] == [None]
