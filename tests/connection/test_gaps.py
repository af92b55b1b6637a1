"""How a database may differ from what is known of it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from sync.connection.gaps import Gap, Known, find_gap, is_promoted
from sync.postgres.identity import ServerFacts
from tests.support.database import uuid
from tests.support.instants import utc

STARTED = utc(2026, 1, 1)
FACTS = ServerFacts("7", 5, 6, 1, STARTED, 8)
KNOWN = Known(uuid(1), 10, "7", 5, 6, 1, STARTED, None, None, None, outbox_oid=8)
AGAIN = replace(FACTS, started_at=STARTED + timedelta(days=1))


@pytest.mark.parametrize(
    ("facts", "seen", "gap"),
    [
        (FACTS, 10, None),
        (FACTS, 9, None),
        (FACTS, None, None),
        (AGAIN, 10, None),
        (AGAIN, 9, Gap.COPY),
        (replace(AGAIN, timeline=2), 10, None),
        (replace(AGAIN, timeline=2), 11, Gap.BEHIND),
        (AGAIN, 11, Gap.BEHIND),
        (FACTS, 11, Gap.COPY),
        (AGAIN, None, Gap.COPY),
        (replace(FACTS, system_identifier="8"), 10, Gap.COPY),
        (replace(FACTS, system_identifier=None), 10, None),
        (replace(FACTS, database_oid=50), 10, Gap.COPY),
        (replace(FACTS, table_oid=60), 10, Gap.COPY),
        (replace(FACTS, outbox_oid=80), 10, Gap.COPY),
    ],
)
def test_what_differs_is_a_gap(facts: ServerFacts, seen: int | None, gap: Gap | None) -> None:
    assert find_gap(KNOWN, facts, seen) is gap


def test_who_has_followed_it_so_far_needs_to_have_seen_no_more() -> None:
    assert find_gap(KNOWN, AGAIN, 9, has_followed=True) is None
    assert find_gap(KNOWN, AGAIN, 11, has_followed=True) is Gap.BEHIND
    assert find_gap(KNOWN, AGAIN, None, has_followed=True) is Gap.COPY


@pytest.mark.parametrize(
    ("facts", "is_one"),
    [
        (FACTS, False),
        (AGAIN, False),
        (replace(AGAIN, timeline=2), True),
        (replace(FACTS, timeline=None), False),
        (replace(AGAIN, timeline=None), True),
    ],
)
def test_a_server_of_another_timeline_may_be_a_standby_that_took_over(facts: ServerFacts, is_one: bool) -> None:
    assert is_promoted(KNOWN, facts) is is_one


def test_a_gap_stays_until_somebody_adopts_the_database() -> None:
    for gap in Gap:
        known = replace(KNOWN, gap=gap, gap_at=STARTED, gap_through=1)
        assert find_gap(known, FACTS, 10) is gap
