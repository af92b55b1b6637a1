"""Whether a database is the one that was worked with: by what it says of itself, and by the witness."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.connection.gaps import Gap
from sync.connection.incarnation import Incarnation
from sync.connection.witness import Witness
from sync.core.errors import IncarnationChanged, NotAdopted, Unsuitable
from sync.postgres.engine import transaction
from tests.support.database import execute, rows

WATERMARK = """
INSERT INTO sync.watermarks (voucher_id, connection, mirrored_from, complete_through, page_size)
VALUES (gen_random_uuid(), 'default', '2026-01-01', '2026-02-01', 1000)
"""


def file_in(directory: Path) -> Path:
    """The one witness in a directory."""
    (path,) = directory.glob("witness-*")
    return path


async def worked_with(engine: AsyncEngine, directory: Path) -> Incarnation:
    """A database that somebody has worked with for a while."""
    incarnation = Incarnation(Witness(directory))
    await incarnation.check(engine)
    for _ in range(3):
        await work(engine, incarnation)
    return incarnation


async def work(engine: AsyncEngine, incarnation: Incarnation) -> None:
    """A transaction that the witness is told of."""
    seen = await incarnation.witnessed()
    async with transaction(engine) as tx:
        position = await incarnation.advance(tx, seen)
    await incarnation.remember(position)


async def test_a_database_is_the_same_in_the_next_process_with_or_without_its_witness(
    engine: AsyncEngine, tmp_path: Path
) -> None:
    await worked_with(engine, tmp_path / "state")
    for directory in (tmp_path / "state", tmp_path / "another", None):
        await Incarnation(Witness(directory)).require(engine)


async def test_a_database_whose_commits_were_lost_before_its_server_started_is_behind(
    engine: AsyncEngine, tmp_path: Path
) -> None:
    await worked_with(engine, tmp_path)
    await execute(engine, "UPDATE sync.incarnation SET position = 1, started_at = started_at - interval '1 day'")
    found = Incarnation(Witness(tmp_path))
    await found.check(engine)
    assert found.known is not None
    assert (found.known.gap, found.known.gap_through) == (Gap.BEHIND, 0)


STARTED_ANEW = "UPDATE sync.incarnation SET started_at = started_at - interval '1 day'"
TAKEN_OVER = f"{STARTED_ANEW}, timeline = timeline - 1"
GAP = "SELECT gap FROM sync.incarnation WHERE gap IS NOT NULL"


async def test_a_server_started_anew_is_vouched_for_by_whoever_worked_with_it_last(
    engine: AsyncEngine, tmp_path: Path
) -> None:
    time_s = 0.0
    first = await worked_with(engine, tmp_path / "first")
    newcomer = Incarnation(Witness(tmp_path / "second"), patience_s=30, clock=lambda: time_s)
    await execute(engine, STARTED_ANEW)
    await newcomer.check(engine)
    time_s = 29.0
    await newcomer.check(engine)
    assert (newcomer.is_unsure, newcomer.is_worked_with) == (True, False)
    await Incarnation(first.witness).require(engine)
    await newcomer.require(engine)
    assert (newcomer.is_unsure, newcomer.is_worked_with) == (False, True)


async def test_one_that_nobody_vouches_for_in_time_is_asked_about(engine: AsyncEngine, tmp_path: Path) -> None:
    time_s = 0.0
    await worked_with(engine, tmp_path / "first")
    newcomer = Incarnation(Witness(tmp_path / "second"), patience_s=30, clock=lambda: time_s)
    await execute(engine, STARTED_ANEW)
    await newcomer.check(engine)
    assert not await rows(engine, GAP)
    time_s = 31.0
    with pytest.raises(NotAdopted):
        await newcomer.require(engine)
    assert await rows(engine, GAP)


async def test_who_runs_on_through_it_needs_no_witness(engine: AsyncEngine) -> None:
    running = Incarnation(Witness(None))
    await running.check(engine)
    await work(engine, running)
    await execute(engine, STARTED_ANEW)
    running.known = None  # as where a transaction has found it to be another server
    await running.require(engine)


@pytest.mark.parametrize(
    ("more", "is_known"),
    [
        ("position = position", True),
        ("position = position + 1", False),
        ("position = position + 100, moved_to = moved_to + 100", False),
        ("moved_by = gen_random_uuid()", False),
    ],
    ids=["as it was", "moved by a release that does not say so", "far ahead of the witness", "moved by another"],
)
async def test_only_a_witness_that_lags_by_what_a_power_failure_leaves_counts_for_what_was_done_from_its_place(
    engine: AsyncEngine, tmp_path: Path, more: str, is_known: bool
) -> None:
    """The power may fail between a commit and the file."""
    first = await worked_with(engine, tmp_path)
    async with transaction(engine) as tx:
        await first.advance(tx, None)
    await execute(engine, f"{STARTED_ANEW}, {more}")
    again = Incarnation(Witness(tmp_path))
    if is_known:
        await again.require(engine)
    else:
        with pytest.raises(NotAdopted):
            await again.require(engine)


async def test_who_waits_for_others_waits_for_what_was_sent_to_a_lost_server_too(
    engine: AsyncEngine, tmp_path: Path
) -> None:
    """Once they vouch for the one that took over, it looks to all others like one that was always there."""
    first = await worked_with(engine, tmp_path / "first")
    newcomer = Incarnation(Witness(tmp_path / "second"), patience_s=30, shows_after_s=45)
    await execute(engine, TAKEN_OVER)
    await newcomer.check(engine)
    await Incarnation(first.witness).require(engine)
    await newcomer.require(engine)
    assert newcomer.shows_in_s > 44


async def test_a_gap_that_the_release_before_might_take_back_stays_once_this_one_has_found_it(
    engine: AsyncEngine, tmp_path: Path
) -> None:
    """It ended the gap, and left what this one had held: `adopt` found nothing to adopt any more."""
    await worked_with(engine, tmp_path / "first")
    await execute(
        engine,
        "UPDATE sync.incarnation SET gap = 'copy', gap_at = now(), gap_through = 0, "
        "unvouched_from = position, position = position + 1",
    )
    with pytest.raises(NotAdopted):
        await Incarnation(Witness(tmp_path / "second")).require(engine)
    assert await rows(engine, "SELECT FROM sync.incarnation WHERE gap = 'copy' AND unvouched_from IS NULL")


async def test_a_spare_knows_how_far_others_work_with_it(engine: AsyncEngine, tmp_path: Path) -> None:
    spare = Incarnation(Witness(tmp_path / "spare"))
    await spare.follow(engine)
    others = Incarnation(Witness(tmp_path / "others"))
    await others.check(engine)
    await work(engine, others)
    await spare.follow(engine)
    await execute(engine, STARTED_ANEW)
    await Incarnation(Witness(tmp_path / "spare")).require(engine)


async def test_what_was_sent_to_a_server_that_is_gone_is_waited_for_before_a_pull_counts(
    engine: AsyncEngine, tmp_path: Path
) -> None:
    await worked_with(engine, tmp_path)
    time_s = 0.0
    await execute(engine, STARTED_ANEW)
    found = Incarnation(Witness(tmp_path), shows_after_s=45, clock=lambda: time_s)
    await found.require(engine)
    assert found.shows_in_s == 0
    await execute(engine, TAKEN_OVER)
    found = Incarnation(Witness(tmp_path), shows_after_s=45, clock=lambda: time_s)
    await found.require(engine)
    assert found.shows_in_s == 45
    time_s = 45.0
    assert found.shows_in_s == 0


async def test_a_claim_is_refused_by_a_database_that_has_lost_commits(engine: AsyncEngine, tmp_path: Path) -> None:
    incarnation = await worked_with(engine, tmp_path)
    async with transaction(engine) as tx:
        await incarnation.confirm(tx)
    await execute(engine, "UPDATE sync.incarnation SET position = position - 1")
    with pytest.raises(IncarnationChanged):
        async with transaction(engine) as tx:
            await incarnation.confirm(tx)


async def test_a_claim_is_refused_once_schema_mews_went_back_by_itself_and_no_watermark_tells_of_it(
    engine: AsyncEngine, tmp_path: Path
) -> None:
    incarnation = await worked_with(engine, tmp_path)
    await execute(engine, WATERMARK)
    await execute(engine, "ALTER TABLE mews.voucher_code_outbox RENAME TO earlier")
    await execute(engine, "CREATE TABLE mews.voucher_code_outbox (LIKE mews.earlier)")
    with pytest.raises(IncarnationChanged):
        await work(engine, incarnation)
    for _ in range(2):
        with pytest.raises(NotAdopted):
            await incarnation.require(engine)
        assert await rows(engine, "SELECT FROM sync.watermarks") == []
    await execute(engine, WATERMARK)
    await Incarnation(Witness(tmp_path)).check(engine)
    assert len(await rows(engine, "SELECT FROM sync.watermarks")) == 1


PUT_BACK = """
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, next_attempt_at, created_at)
VALUES ('add', gen_random_uuid(), 'A', now(), now() - interval '1 day')
"""


async def test_what_was_queued_before_an_outbox_was_emptied_is_sent_by_nobody_and_what_comes_later_is(
    engine: AsyncEngine, tmp_path: Path
) -> None:
    incarnation, now = await worked_with(engine, tmp_path), datetime.now(UTC)
    await execute(engine, "TRUNCATE mews.voucher_code_outbox CASCADE")
    with pytest.raises(IncarnationChanged):
        await work(engine, incarnation)
    await incarnation.check(engine)
    await work(engine, incarnation)
    incarnation.refuse_put_back([now + timedelta(days=1)])
    async with transaction(engine) as tx:
        await tx.execute(text("SET LOCAL session_replication_role = replica"))
        await tx.execute(text(PUT_BACK))
    with pytest.raises(IncarnationChanged):
        incarnation.refuse_put_back([now + timedelta(days=1), now - timedelta(days=1)])
    await incarnation.check(engine)
    assert incarnation.known is not None
    assert incarnation.known.gap is Gap.BEHIND


async def test_a_database_that_says_nothing_of_itself_yet_is_not_taken_for_a_new_one(
    engine: AsyncEngine, tmp_path: Path
) -> None:
    """While it is restored, its outbox may be there before that is."""
    incarnation = Incarnation(Witness(tmp_path))
    await incarnation.check(engine)
    (row,) = await rows(engine, "DELETE FROM sync.incarnation RETURNING *")
    with pytest.raises(IncarnationChanged):
        async with transaction(engine) as tx:
            await incarnation.confirm(tx)
    for one in (incarnation, Incarnation(Witness(tmp_path)), Incarnation(Witness(None))):
        with pytest.raises(Unsuitable, match="is being restored"):
            await one.check(engine)
    assert await rows(engine, "SELECT FROM sync.incarnation") == []
    columns, names = ", ".join(f'"{name}"' for name in row), ", ".join(f":{name}" for name in row)
    await execute(engine, f"INSERT INTO sync.incarnation ({columns}) VALUES ({names})", **row)
    await incarnation.check(engine)
    assert incarnation.is_worked_with


async def test_two_databases_of_one_name_are_noticed_by_the_witness_of_both(
    engine: AsyncEngine, tmp_path: Path
) -> None:
    incarnation = await worked_with(engine, tmp_path)
    path = file_in(tmp_path)
    known = json.loads(path.read_text())
    path.write_text(json.dumps(known | dict.fromkeys(("position", "once_more"), known["position"] + 5)))
    with pytest.raises(IncarnationChanged):
        await work(engine, incarnation)
    with pytest.raises(NotAdopted):
        await incarnation.require(engine)


async def test_the_witness_is_for_its_user_alone_and_tells_what_is_committed(
    engine: AsyncEngine, tmp_path: Path
) -> None:
    await worked_with(engine, tmp_path / "state")
    path = file_in(tmp_path / "state")
    (row,) = await rows(engine, "SELECT id, position FROM sync.incarnation")
    told = {"incarnation": str(row["id"]), "position": row["position"], "once_more": row["position"]}
    assert json.loads(path.read_text()) == told
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


async def test_without_a_place_for_the_witness_work_goes_on(engine: AsyncEngine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    incarnation = await worked_with(engine, tmp_path / "file" / "state")
    assert (incarnation.known is not None, incarnation.checks) == (True, 1)


async def test_a_witness_that_cannot_be_read_is_none(engine: AsyncEngine, tmp_path: Path) -> None:
    await worked_with(engine, tmp_path)
    path = file_in(tmp_path)
    for words in ("", "[]", "{}", '{"position": "x"}'):
        path.write_text(words)
        await Incarnation(Witness(tmp_path)).require(engine)
