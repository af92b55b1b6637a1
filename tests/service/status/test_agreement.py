"""What stands beside each other agrees: figures, the page's tiles, and the words for a state."""

from dataclasses import replace

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.cli.status_text import as_text
from sync.postgres.engine import transaction
from sync.service.status import backlog, words
from sync.service.status.detail_facts import BackfillProgress
from sync.service.status.facts import Overview
from sync.service.status.load import load_overview
from sync.service.status.verdict import judge
from sync.web.page.tiles import tiles_of_all
from sync.web.page.view import Asked, make_view

from .helpers import NOW, connection, overview, queue

REMOVED = """
INSERT INTO sync.connections (name, state, heartbeat_at, caught_up_as_of, token_fingerprint, removed_at, paused_at)
VALUES ('removed', 'ok', now(), now(), 'y', now(), now())
"""
DAEMON = """
INSERT INTO sync.daemons (process, host, pid, version, revision, settings, started_at, heartbeat_at, beat, takes)
VALUES (md5('a')::uuid, 'host-a', 7, '0.1.0', '0051', '{}', now() - interval '3 days', now() - interval '1 hour', 9,
        '{environment}')
"""


async def load(engine: AsyncEngine) -> Overview:
    async with transaction(engine) as tx:
        return await load_overview(tx)


def tile(facts: Overview, label: str, name: str | None = None) -> tuple[str, str]:
    """What a tile says, large and small."""
    view = make_view(facts, Asked(name), lease_s=30.0, settings={})
    return next((one.value, one.detail) for one in view.tiles if one.label == label)


async def test_what_is_no_connection_s_waits_in_no_list_of_one_beside_a_removed_one(
    sql: psycopg.Connection, engine: AsyncEngine
) -> None:
    sql.execute(REMOVED)
    queue(sql, "LEFT", "pending", connection="removed")
    queue(sql, "NOWHERE", "pending", connection=None)
    found = await load(engine)
    told = {one.name: (one.backlog.outbox, [wait.count for wait in one.details.waiting]) for one in found.connections}
    assert (told, found.unassigned) == ({"default": ({}, []), "removed": ({"pending": 1}, [1])}, {"pending": 1})


async def test_the_oldest_that_waits_is_none_that_is_held(sql: psycopg.Connection, engine: AsyncEngine) -> None:
    queue(sql, "WAITS", "pending")
    queue(sql, "HELD", "held", connection=None)
    sql.execute("UPDATE mews.voucher_code_outbox SET created_at = now() - interval '9 hours' WHERE status = 'held'")
    (one,) = (await load(engine)).connections
    assert 3500 < (one.backlog.oldest_waiting_age_s or 0) < 3700


async def test_more_of_no_connection_s_than_are_counted_are_told_so_everywhere(
    sql: psycopg.Connection, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "COUNTED_TO", 5)
    sql.execute("INSERT INTO sync.connections (name, state, heartbeat_at) VALUES ('prague', 'ok', now())")
    for number in range(10):
        queue(sql, f"NOWHERE-{number}", "pending" if number < 4 else "held", connection=None)
    found = await load(engine)
    assert (found.unassigned, found.unassigned_at_least) == ({"pending": 4, "held": 5}, ["held"])
    assert "no connection knows: more than 5 held, 4 pending" in " ".join(as_text(found, 30.0, 120))
    assert "more than 5 changes held until somebody looks" in " ".join(note.text for note in judge(found).notes)
    assert tile(found, "Held or refused") == ("more than 5", "more than 5 held, 0 refused")


async def test_a_silent_daemon_works_for_nobody(sql: psycopg.Connection, engine: AsyncEngine) -> None:
    sql.execute(DAEMON)
    sql.execute("UPDATE sync.connections SET owner = md5('a')::uuid")
    found = await load(engine)
    assert ([one.owner for one in found.connections], [one.connections for one in found.daemons]) == ([None], [0])
    assert "SILENT, last heard of 60 minutes ago; voucher-sync 0.1.0" in words.daemon(found.daemons[0])


def test_who_has_never_caught_up_is_told_beside_the_furthest_behind() -> None:
    never = [connection(name=str(number), caught_up_age_s=None) for number in range(12)]
    late = connection(name="late", caught_up_age_s=400.0)
    assert tile(overview(*never), "Furthest behind") == ("not yet", "no pull has caught up so far")
    told = ("7 minutes", "since its last pull that caught up, and 12 not yet")
    assert tile(overview(late, *never), "Furthest behind") == told
    paused = [replace(one, paused_at=NOW) for one in (late, *never)]
    assert tile(overview(*paused), "Furthest behind") == ("none", "none is at work")


@pytest.mark.parametrize(
    ("is_removed", "said"), [(False, "none while it is paused"), (True, "none since it was removed")]
)
def test_of_what_nobody_works_for_is_said_why(is_removed: bool, said: str) -> None:
    one = connection(paused_at=NOW, is_removed=is_removed)
    lines = {line[:18].strip(): line[18:] for line in as_text(overview(one), 30.0, 100)}
    assert (lines["daemon"], lines["next audit"]) == (said, said)
    assert tile(overview(one), "Audit") == ("0 drifted", f"last 5 hours ago, {said}")
    new = replace(one, mirror=replace(one.mirror, audited_since=None))
    assert tile(overview(new), "Audit") == ("never audited", said)
    of_all = {one.label: one.detail for one in tiles_of_all(overview(one, connection(name="b")), {})}
    assert of_all["Connections"] == ("none fails" if is_removed else "none fails, 1 paused")


def test_one_of_several_windows_is_left() -> None:
    for planned, said in ((5, "1 of 5 windows is left to read"), (1, "1 of 1 window is left to read")):
        reading = BackfillProgress(1, planned, NOW, NOW, 1, [], None)
        one = connection(open_windows=1)
        assert words.windows_left(replace(one, details=replace(one.details, reading=reading))) == said
    assert words.windows_left(connection(open_windows=1)) == "1 window is left to read"


def test_a_clock_that_was_set_back_by_a_day_is_told_in_hours() -> None:
    assert words.ago(-86_400).startswith("24 hours ahead")
