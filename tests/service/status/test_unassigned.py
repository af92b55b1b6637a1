"""A change whose voucher no connection knows is told once, however many connections there are."""

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.alerts.conditions import conditions_of, conditions_of_none
from sync.cli.status import _exit_code
from sync.cli.status_text import as_text
from sync.postgres.engine import transaction
from sync.service.status.facts import Overview
from sync.service.status.load import load_overview
from sync.service.status.reasons import with_reasons
from sync.service.status.verdict import Level, judge
from sync.web.metrics import names
from sync.web.metrics.stored import load_stored
from sync.web.page.view import Asked, make_view

from .helpers import queue


@pytest.fixture
def left_over(sql: psycopg.Connection) -> psycopg.Connection:
    """Three that failed and one that waits, of no connection's vouchers."""
    for number in range(3):
        queue(sql, f"NOWHERE-{number}", "failed", connection=None, error="no connection")
    queue(sql, "NOWHERE-3", "pending", connection=None)
    return sql


def add_hotel(sql: psycopg.Connection) -> None:
    sql.execute(
        "INSERT INTO sync.connections (name, state, heartbeat_at, caught_up_as_of, token_fingerprint) "
        "VALUES ('prague', 'ok', now(), now(), 'y')"
    )


async def load(engine: AsyncEngine) -> Overview:
    async with transaction(engine) as tx:
        return await with_reasons(tx, await load_overview(tx))


async def test_it_is_the_only_connection_s_where_there_is_one(
    left_over: psycopg.Connection, engine: AsyncEngine
) -> None:
    overview = await load(engine)
    (one,) = overview.connections
    assert (one.backlog.outbox, [group.count for group in one.details.failed], overview.unassigned) == (
        {"failed": 3, "pending": 1},
        [3],
        {},
    )
    assert judge(overview).headline == "Working, and changes were refused"


async def test_of_several_it_is_none_s(left_over: psycopg.Connection, engine: AsyncEngine) -> None:
    add_hotel(left_over)
    overview = await load(engine)
    assert [(one.backlog.outbox, one.details.failed, one.details.waiting) for one in overview.connections] == 2 * [
        ({}, [], [])
    ]
    assert overview.unassigned == {"failed": 3, "pending": 1}
    verdict = judge(overview)
    assert (verdict.level, verdict.headline) == (
        Level.ATTENTION,
        "All 2 connections work, and changes of unknown vouchers were refused",
    )
    assert verdict.cause == "3 changes refused for good, of vouchers that no connection knows"
    assert (_exit_code(overview, 30, strict=False), _exit_code(overview, 30, strict=True)) == (0, 3)
    assert "of vouchers that no connection knows: 3 failed, 1 pending" in as_text(overview, 30, 80)
    view = make_view(overview, Asked(), lease_s=30, settings={})
    assert {tile.label: tile.value for tile in view.tiles} | {"Waiting": "1", "Held or refused": "3"} == {
        tile.label: tile.value for tile in view.tiles
    }
    assert [line.outbox for line in view.lines] == ["", ""]


async def test_somebody_is_told_once(left_over: psycopg.Connection, engine: AsyncEngine) -> None:
    add_hotel(left_over)
    overview = await load(engine)
    told = [condition for one in overview.connections for condition in conditions_of(one)]
    told += conditions_of_none(overview.unassigned)
    assert [(one.connection, one.kind, one.summary) for one in told] == [
        ("", "changes_failed", "(no connection knows the voucher) changes refused for good: 3")
    ]


async def test_metrics_tell_it_of_no_connection_and_0_of_all_others(
    left_over: psycopg.Connection, engine: AsyncEngine
) -> None:
    add_hotel(left_over)
    async with transaction(engine) as tx:
        stored = await load_stored(tx)
    told = {labels: value for column in stored[names.OUTBOX] for labels, value in column}
    assert {one: told[one] for one in told if one[1] in {"failed", "held"}} == {
        ("", "failed"): 3,
        ("default", "failed"): 0,
        ("prague", "failed"): 0,
        ("", "held"): 0,
        ("default", "held"): 0,
        ("prague", "held"): 0,
    }
