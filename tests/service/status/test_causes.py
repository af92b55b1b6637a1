"""What is said first names the cause, as far as it is known, and nothing that is not so."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sync.service.status.detail_facts import Details, FailedGroup, LeftOut
from sync.service.status.verdict import Level, judge

from .helpers import NOW, connection, overview

REFUSED = FailedGroup("it exists", 8, NOW, 7, None)


@pytest.mark.parametrize(
    ("facts", "cause"),
    [
        (
            {"outbox": {"failed": 9}, "details": Details(failed=[REFUSED, replace(REFUSED, reason="too long")])},
            "9 changes refused for good, so not tried again; most often: it exists",
        ),
        (
            {"rejected_records": 2, "details": Details(rejected_because=[LeftOut("VoucherCodes", "no Id", 2, [])])},
            "2 records of the API cannot be stored; the reason: no Id",
        ),
    ],
)
def test_what_somebody_must_look_at_comes_with_its_reason(facts: dict[str, Any], cause: str) -> None:
    assert judge(overview(connection(**facts))).cause == cause


@pytest.mark.parametrize(
    ("caught_up_age_s", "level"), [(30.0, Level.ATTENTION), (None, Level.READING)], ids=["later", "first backfill"]
)
def test_what_somebody_must_look_at_comes_before_what_is_read_beside(
    caught_up_age_s: float | None, level: Level
) -> None:
    one = connection(open_windows=3, outbox={"held": 12}, caught_up_age_s=caught_up_age_s)
    verdict = judge(overview(one))
    assert (verdict.level, [note.what for note in verdict.notes]) == (level, ["changes are held"])


@pytest.mark.parametrize(
    ("failing_s", "headline"), [(29, "The API is failing"), (31, "The API is failing, while pulls still work")]
)
def test_pulls_still_work_where_one_has_caught_up_since_it_fails(failing_s: int, headline: str) -> None:
    since = NOW - timedelta(seconds=failing_s)
    one = connection(state="failing", error="the API failed (503)", error_kind="ServerError", state_since=since)
    assert judge(overview(one)).headline == headline


def test_a_setting_that_the_environment_of_a_daemon_lacks_is_to_be_set_there() -> None:
    lacking = {"state": "failing", "error": "MEWS_CLIENT_TOKEN is not set", "error_kind": "SettingsError"}
    verdict = judge(overview(connection(origin="environment", **lacking)))
    assert verdict.to_do == "set what it names where the daemon runs, and start that anew"
