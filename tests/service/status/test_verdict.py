"""What is said of facts, and what comes first."""

from datetime import timedelta
from typing import Any

import pytest

from sync.cli.status_text import as_text
from sync.core import errors
from sync.service.status import remedies
from sync.service.status.verdict import Level, judge, judge_connection

from .helpers import NOW, connection, overview


@pytest.mark.parametrize(
    ("facts", "level", "headline", "cause"),
    [
        ({}, Level.OK, "The mirror is up to date", "Caught up with the API 30 s ago"),
        ({"heartbeat_age_s": None}, Level.OK, "Mirrored by single cycles", "No daemon was ever seen"),
        ({"heartbeat_age_s": 31.0}, Level.FAILING, "No daemon is running", "The daemon is silent"),
        ({"heartbeat_age_s": -31.0}, Level.FAILING, "No daemon is running", "The daemon is silent"),
        ({"heartbeat_age_s": -29.0}, Level.OK, "The mirror is up to date", ""),
        ({"caught_up_age_s": 181.0}, Level.DEGRADED, "Fallen behind", "No pull has caught up for 3 minutes"),
        ({"gap": "copy"}, Level.FAILING, "Waiting to be adopted", "restored or copied"),
        ({"gap": "behind"}, Level.FAILING, "Waiting to be adopted", "lost commits"),
        ({"state": "unknown", "state_since": None}, Level.READING, "Just begun", "no run has told"),
        ({"caught_up_age_s": None, "open_windows": 5}, Level.READING, "Working on the first backfill", "5 windows"),
        ({"caught_up_age_s": None, "vouchers": 0}, Level.READING, "No voucher is known yet", "none so far"),
        ({"open_windows": 3}, Level.READING, "Working, and reading more of the past", "3 windows are left"),
        ({"outbox": {"held": 12}}, Level.ATTENTION, "Working, and something needs you", "12 changes held"),
        ({"outbox": {"failed": 1}}, Level.ATTENTION, "Working, and something needs you", "1 change refused"),
        ({"outbox": {"pending": 9}}, Level.OK, "The mirror is up to date", ""),
        ({"audit_drift": 3}, Level.ATTENTION, "Working, and something needs you", "3 codes that had drifted"),
        ({"audit_braked": "half is missing"}, Level.ATTENTION, "Working, and something needs you", "half is missing"),
        ({"rejected_records": 2}, Level.ATTENTION, "Working, and something needs you", "2 records"),
    ],
)
def test_each_state_has_its_words(facts: dict[str, Any], level: Level, headline: str, cause: str) -> None:
    verdict = judge(overview(connection(**facts)))
    assert (verdict.level, verdict.headline) == (level, headline)
    assert cause in verdict.cause
    assert bool(verdict.to_do) == (level not in {Level.OK, Level.READING} or facts.get("state") == "unknown")


@pytest.mark.parametrize(("caught_up_age_s", "level"), [(30.0, Level.DEGRADED), (600.0, Level.FAILING)])
def test_what_fails_while_pulls_go_on_is_told_apart(caught_up_age_s: float, level: Level) -> None:
    since = NOW - timedelta(minutes=9)
    failing = {"state": "failing", "error": "not authorised (401)", "error_kind": "Unauthorized", "state_since": since}
    verdict = judge(overview(connection(**failing, caught_up_age_s=caught_up_age_s, outbox={"held": 1})))
    assert (verdict.level, verdict.cause, verdict.since) == (level, "not authorised (401)", since)
    assert "MEWS_ACCESS_TOKEN" in verdict.to_do
    assert [note.text for note in verdict.notes] == ["1 change held until somebody looks"]


def test_the_most_urgent_of_several_is_told_with_its_name() -> None:
    broken = connection(name="b", state="failing", error="the API failed", error_kind="ServerError", lag_s=900.0)
    verdict = judge(overview(connection(name="a"), broken, connection(name="c", outbox={"failed": 2})))
    assert (verdict.level, verdict.headline) == (Level.DEGRADED, "1 of 3 connections: degraded")
    assert verdict.cause == "b: the API failed"
    assert judge(overview(connection(name="a"), connection(name="b"))).headline == "All 2 connections work"


def test_without_any_connection_it_says_how_to_begin() -> None:
    assert judge(overview(daemons=())).to_do == "start `voucher-sync run`, or `voucher-sync once`"
    assert judge(overview()).level is Level.NOTHING


def test_every_error_that_a_daemon_can_meet_has_a_next_step() -> None:
    kinds = {one.__name__ for one in vars(errors).values() if isinstance(one, type)} | {"KeyError", ""}
    assert all(remedies.of(kind) for kind in kinds)
    assert remedies.RUNNING.keys() <= kinds


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    long = "voucherCodes/getAll: not authorised (401): the access token is expired, or was taken back by the hotel " * 2
    one = connection(state="failing", error=long, outbox={"held": 3, "failed": 4}, audit_braked=long)
    for connections in ([one], [one, connection(name="the-second-of-a-name-that-is-longer-than-any-column")]):
        shown = as_text(overview(*connections), 30.0, width)
        assert [line for line in shown if len(line) > width] == []


@pytest.mark.parametrize(
    ("age_s", "words"),
    [
        (4, "alive, last heard of 4 s ago"),
        (-4, "alive, last heard of 4 s ahead (the database's clock was set back)"),
        (-900, "SILENT, last heard of 900 s ahead (the database's clock was set back)"),
        (200, "SILENT, last heard of 3 minutes ago"),
        (86_400 * 40, "SILENT, last heard of 40 days ago"),
    ],
)
def test_how_long_a_daemon_is_silent_is_told_in_words(age_s: float, words: str) -> None:
    shown = as_text(overview(connection(heartbeat_age_s=age_s)), 30.0, 120)
    assert f"daemon            {words}" in shown


def test_a_lease_that_a_daemon_was_given_counts() -> None:
    one = connection(heartbeat_age_s=500.0)
    assert judge_connection(one, overview(one, daemons=()), 600.0).level is Level.OK
    assert judge_connection(one, overview(one, daemons=()), 30.0).level is Level.FAILING
