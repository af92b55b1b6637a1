"""What is said of facts, and what comes first."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sync.cli.status_text import as_text
from sync.core import api_errors, errors
from sync.service.status import remedies
from sync.service.status.detail_facts import Details, HeldGroup, WaitingGroup
from sync.service.status.order import by_urgency, furthest_behind
from sync.service.status.verdict import Level, judge, judge_connection

from .helpers import NOW, connection, daemon, overview

PASSING = {
    "", "ApiError", "AuditMissed", "AuditRunning", "CommitUnknown", "Conflict", "DatabaseError", "DatabaseLocked",
    "IncarnationChanged", "KeyError", "NotProcessed", "OutcomeUnknown", "PayloadTooLarge", "RequestTimedOut", "Stopped",
    "Unsent", "VoucherSyncError",
}  # fmt: skip
"""Kinds of errors of which all that is to be said is that it is tried again."""


@pytest.mark.parametrize(
    ("facts", "level", "headline", "cause"),
    [
        ({}, Level.OK, "The mirror is up to date", "Caught up with the API 30 s ago"),
        ({"heartbeat_age_s": None}, Level.OK, "Mirrored by single cycles", "No daemon was ever seen"),
        ({"heartbeat_age_s": None, "caught_up_age_s": 9e4}, Level.OK, "Mirrored by single cycles", "25 hours ago"),
        (
            {"heartbeat_age_s": None, "caught_up_age_s": 9e4 + 1},
            Level.DEGRADED,
            "Fallen behind",
            "for 25 hours, and no",
        ),
        ({"heartbeat_age_s": 31.0}, Level.FAILING, "No daemon works for it", "none of them has noted lately"),
        ({"heartbeat_age_s": -31.0}, Level.FAILING, "No daemon works for it", "none of them has noted lately"),
        ({"heartbeat_age_s": -29.0}, Level.OK, "The mirror is up to date", ""),
        ({"caught_up_age_s": 181.0}, Level.DEGRADED, "Fallen behind", "No pull has caught up for 3 minutes"),
        ({"gap": "copy"}, Level.FAILING, "Waiting to be adopted", "restored or copied"),
        ({"gap": "behind"}, Level.FAILING, "Waiting to be adopted", "lost commits"),
        ({"state": "unknown", "state_since": None}, Level.READING, "Just begun", "no run has told"),
        ({"caught_up_age_s": None, "open_windows": 5}, Level.READING, "Working on the first backfill", "5 windows"),
        ({"caught_up_age_s": None, "vouchers": 0}, Level.READING, "No voucher is known yet", "no voucher so far"),
        ({"open_windows": 3}, Level.READING, "Working, and reading more of the past", "3 windows are left"),
        ({"outbox": {"held": 12}}, Level.ATTENTION, "Working, and changes are held", "12 changes held"),
        ({"outbox": {"failed": 1}}, Level.ATTENTION, "Working, and changes were refused", "1 change refused"),
        ({"outbox": {"pending": 9}}, Level.OK, "The mirror is up to date", ""),
        (
            {"audit_drift": 3},
            Level.ATTENTION,
            "Working, and codes had drifted",
            "drifted, and none of them is mended",
        ),
        (
            {"audit_drift": 3, "audit_repaired": 3},
            Level.ATTENTION,
            "Working, and codes had drifted",
            "found 3 codes that had drifted, and all of them are mended",
        ),
        (
            {"audit_drift": 3, "audit_repaired": 1},
            Level.ATTENTION,
            "Working, and codes had drifted",
            "only 1 of them mended",
        ),
        ({"paused_at": NOW, "heartbeat_age_s": 9e5}, Level.PAUSED, "Paused", "No reason was given"),
        ({"paused_at": NOW, "paused_because": "until May"}, Level.PAUSED, "Paused", "until May"),
        ({"paused_at": NOW, "gap": "copy"}, Level.FAILING, "Waiting to be adopted", "restored or copied"),
        (
            {"audit_braked": "half is missing"},
            Level.ATTENTION,
            "Working, and the audit changed nothing",
            "half is missing",
        ),
        ({"is_removed": True, "paused_at": NOW}, Level.ATTENTION, "Removed, and changes wait", "nobody sends them"),
        ({"skipped": 9, "refused_vouchers": 2}, Level.ATTENTION, "Working, and vouchers are refused", "2 vouchers"),
        ({"rejected_records": 2}, Level.ATTENTION, "Working, and records cannot be stored", "2 records"),
    ],
)
def test_each_state_has_its_words(facts: dict[str, Any], level: Level, headline: str, cause: str) -> None:
    verdict = judge(overview(connection(**facts)))
    assert (verdict.level, verdict.headline) == (level, headline)
    assert cause in verdict.cause
    assert bool(verdict.to_do) == (level not in {Level.OK, Level.READING})


@pytest.mark.parametrize("age_s", [31.0, -31.0])
def test_where_no_daemon_is_alive_that_is_what_is_told(age_s: float) -> None:
    dead = (daemon(is_alive=False),)
    verdict = judge(overview(connection(heartbeat_age_s=age_s), daemons=dead))
    assert (verdict.level, verdict.headline) == (Level.FAILING, "No daemon is running")
    assert "finds" not in verdict.to_do, "of one that was stopped `check` finds nothing"
    assert judge(overview(connection(heartbeat_age_s=age_s, paused_at=NOW), daemons=dead)).level is Level.PAUSED


OLD = {"version": "0.0.9", "revision": "0018", "takes": None, "is_alive": False, "heartbeat_age_s": 7200.0}
OLD_WORDS = "daemon host-a (4002) (voucher-sync 0.0.9, schema 0018, here 0019), last heard of 2 hours ago"


def test_where_none_is_alive_and_the_silent_one_is_of_an_older_release_that_is_told() -> None:
    verdict = judge(overview(connection(heartbeat_age_s=7200.0), daemons=(daemon(2, **OLD),)))
    assert (verdict.level, verdict.headline) == (Level.FAILING, "No daemon is running")
    assert OLD_WORDS in verdict.cause
    assert verdict.to_do.startswith("bring voucher-sync to the release that migrated this database")
    dead = (daemon(2, **OLD | {"revision": "0019"}),)
    verdict = judge(overview(connection(heartbeat_age_s=7200.0), daemons=dead))
    assert ("older release" in verdict.cause, "release" in verdict.to_do) == (False, False)


@pytest.mark.parametrize("names", [["a"], ["a", "b"]])
def test_beside_one_that_works_a_silent_one_of_an_older_release_is_told_and_nothing_is_worse_for_it(
    names: list[str],
) -> None:
    connections = [connection(name=name) for name in names]
    verdict = judge(overview(*connections, daemons=(daemon(), daemon(2, **OLD), daemon(3, **OLD))))
    assert (verdict.level, verdict.to_do) == (Level.OK, "")
    assert f"{OLD_WORDS}, and 1 more." in verdict.cause
    alive = daemon(2, **OLD | {"is_alive": True})
    assert "older release" not in judge(overview(*connections, daemons=(daemon(), alive))).cause


@pytest.mark.parametrize("heartbeat_age_s", [None, 400.0])
def test_a_stored_connection_that_no_daemon_has_the_key_to_is_told_so(heartbeat_age_s: float | None) -> None:
    stored = connection(origin="command", heartbeat_age_s=heartbeat_age_s)
    verdict = judge(overview(stored, daemons=(daemon(takes=["environment"]), daemon(2, takes=[]))))
    assert (verdict.level, verdict.headline) == (Level.FAILING, "No daemon can read its tokens")
    assert "SYNC_SECRET_KEY_FILE" in verdict.to_do
    for able in (daemon(takes=["stored"]), daemon(takes=None)):
        assert judge(overview(stored, daemons=(daemon(2, takes=[]), able))).headline != verdict.headline


def test_tokens_that_their_daemon_cannot_read_are_told_as_that_and_not_as_a_daemon_that_is_missing() -> None:
    begun = connection(
        origin="command",
        owner="host:1",
        heartbeat_age_s=400.0,
        caught_up_age_s=400.0,
        state="failing",
        error="x",
        error_kind="SettingsError",
    )
    verdict = judge(overview(begun, daemons=(daemon(takes=["stored"]),)))
    assert (verdict.level, verdict.cause) == (Level.FAILING, "x")
    assert "connections rotate" in verdict.to_do


@pytest.mark.parametrize("kind", sorted({*remedies.RUNNING, "KeyError"}))
def test_what_to_do_of_a_stored_connection_names_no_token_of_the_environment(kind: str) -> None:
    failing = {"name": "lake house", "state": "failing", "error": "refused", "error_kind": kind}
    verdict = judge(overview(connection(origin="webhook", **failing)))
    assert verdict.to_do
    assert "MEWS_" not in verdict.to_do
    if kind in {"Unauthorized", "AnotherHotel"}:
        assert "`voucher-sync connections rotate 'lake house'`" in verdict.to_do
    if kind == "TooMuchMissing":
        assert "`voucher-sync audit --repair --accept-loss --connection 'lake house'`" in verdict.to_do


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
    assert [note.text for note in verdict.notes] == ["c: 2 changes refused for good, so not tried again"]
    assert judge(overview(connection(name="a"), connection(name="b"))).headline == "All 2 connections work"


def test_of_many_that_fail_alike_it_is_told_how_many_since_when_and_what_to_do_for_each() -> None:
    refused = {"state": "failing", "error": "not authorised (401)", "error_kind": "Unauthorized", "origin": "stored"}
    failing = [
        connection(name=f"hotel-{days}", **refused, state_since=NOW - timedelta(days=days), caught_up_age_s=9e5)
        for days in (2, 289, 26)
    ]
    other = connection(name="hotel-0", state="failing", error="no", error_kind="ServerError", caught_up_age_s=9e5)
    well = [connection(name=f"well-{number}", outbox={"held": 1}) for number in range(5)]
    verdict = judge(overview(*failing, other, *well))
    assert verdict.headline == "4 of 9 connections: failing"
    assert verdict.cause == "3 of them: The API refuses the token; longest hotel-289: not authorised (401)"
    assert verdict.since == NOW - timedelta(days=289)
    assert verdict.to_do.startswith("for each of them, as for hotel-289: ")
    assert [note.text for note in verdict.notes] == [
        "well-0: 1 change held until somebody looks; and 4 more connections"
    ]
    alone = judge(overview(*failing, *well))
    assert alone.cause.startswith("All of them: The API refuses the token; longest hotel-289: ")


def test_what_is_paused_is_neither_well_nor_in_need_of_anybody() -> None:
    paused = connection(name="p", paused_at=NOW)
    some = judge(overview(connection(name="a"), paused))
    assert (some.level, some.headline) == (Level.OK, "1 of 2 connections work, the rest is paused")
    assert judge(overview(paused, replace(paused, name="q"))).level is Level.PAUSED
    failing = connection(name="b", state="failing", error="no", caught_up_age_s=900.0)
    assert judge(overview(failing, paused)).level is Level.FAILING


def test_the_most_urgent_come_first_and_then_the_furthest_behind() -> None:
    paused = connection(name="paused", paused_at=NOW, caught_up_age_s=9e5)
    never = connection(name="never", caught_up_age_s=None)
    failing = connection(name="failing", state="failing", error="no")
    many = [connection(name=f"hotel-{number:02}", caught_up_age_s=float(number)) for number in range(20)]
    everything = overview(*many, paused, never, failing)
    verdicts = {one.name: judge_connection(one, everything) for one in everything.connections}
    names = [one.name for one in by_urgency(everything.connections, verdicts)]
    assert names[:5] == ["failing", "paused", "never", "hotel-19", "hotel-18"]
    slowest = [one.name for one in furthest_behind(everything.connections)]
    assert (slowest[:2], len(slowest), "paused" in slowest) == (["never", "failing"], 10, False)


def test_without_any_connection_it_says_how_to_begin() -> None:
    assert judge(overview(daemons=())).to_do == "start `voucher-sync run`, or `voucher-sync once`"
    assert "The database is voucher_sync at db:5432." in judge(overview(daemons=())).cause
    assert judge(overview()).level is Level.NOTHING


def test_every_error_that_a_daemon_can_meet_has_a_next_step_of_its_own_or_passes() -> None:
    raised = [one for module in (errors, api_errors) for one in vars(module).values() if isinstance(one, type)]
    kinds = {one.__name__ for one in raised} | {"KeyError", ""}
    assert {kind for kind in kinds if remedies.of(kind) == remedies.NOTHING} == PASSING
    assert remedies.RUNNING.keys() <= kinds


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    long = "voucherCodes/getAll: not authorised (401): the access token is expired, or was taken back by the hotel " * 2
    one = connection(state="failing", error=long, outbox={"held": 3, "failed": 4}, audit_braked=long)
    for connections in ([one], [one, connection(name="the-second-of-a-name-that-is-longer-than-any-column")]):
        shown = as_text(overview(*connections), 30.0, width)
        assert [line for line in shown if len(line) > width] == []


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_command_is_broken_between_its_words_alone(width: int) -> None:
    one = connection(outbox={"held": 3, "failed": 4}, audit_drift=2, rejected_records=1)
    for connections in ([one], [one, connection(name="lake", origin="command", paused_at=NOW)]):
        shown = as_text(overview(*connections), 30.0, width)
        assert [line for line in shown if line.endswith("-")] == []


def test_of_many_the_settings_of_each_daemon_are_left_out() -> None:
    set_otherwise = daemon(settings={"SYNC_PULL_INTERVAL_S": 7.0})
    one = "\n".join(as_text(overview(connection(), daemons=(set_otherwise,)), 30.0, 80))
    two = "\n".join(as_text(overview(connection(), connection(name="b"), daemons=(set_otherwise,)), 30.0, 80))
    assert ("SYNC_PULL_INTERVAL_S=7.0" in one, "SYNC_PULL_INTERVAL_S=7.0" in two) == (True, False)


@pytest.mark.parametrize(
    ("age_s", "words"),
    [
        (4, "alive, last heard of 4 s ago"),
        (-4, "alive, last heard of 4 s ahead (the database's clock was set back)"),
        (-900, "SILENT, last heard of 15 minutes ahead (the database's clock was set back)"),
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


def test_beside_one_that_works_a_silent_one_is_told_unless_it_was_started_anew() -> None:
    silent = daemon(2, is_alive=False, heartbeat_age_s=7200.0)
    told = judge(overview(connection(), daemons=(daemon(), silent)))
    assert (told.level, "Silent: daemon host-a (4002), last heard of 2 hours ago." in told.cause) == (Level.OK, True)
    successor = daemon(3, started_at=NOW - timedelta(minutes=90))
    assert "Silent" not in judge(overview(connection(), daemons=(successor, silent))).cause


def test_where_reasons_are_those_of_some_changes_only_that_is_said() -> None:
    details = Details(held_for=[HeldGroup("too many", 1000, NOW)], waiting=[WaitingGroup("due", 7, NOW, None)])
    many = {"held": 9000, "pending": 7, "failed": 0}
    lines = as_text(overview(connection(outbox=many, details=details)), 30.0, 120)
    assert ("held, 1,000 of 9,000 by reason:" in lines, "waiting:" in lines) == (True, True)
    bounded = connection(outbox=many | {"held": 10_000}, outbox_at_least=["held"], details=details)
    assert "held, 1,000 of more than 10,000 by reason:" in as_text(overview(bounded), 30.0, 120)


def test_what_has_a_next_step_has_a_headline() -> None:
    assert remedies.RUNNING.keys() <= remedies.HEADLINES.keys()
