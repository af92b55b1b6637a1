"""What is said of a database that waits to be adopted."""

from datetime import timedelta

import pytest

from sync.service.status.notes import ADOPT_TO_DO, HELD_TO_DO
from sync.service.status.verdict import judge

from .helpers import NOW, connection, overview


def test_it_waits_since_that_was_noticed_and_not_since_the_connection_works() -> None:
    at = NOW - timedelta(minutes=3)
    told = judge(overview(connection(gap="behind", gap_at=at, state_since=NOW - timedelta(days=21))))
    assert (told.headline, told.since) == ("Waiting to be adopted", at)


@pytest.mark.parametrize(
    ("gap", "held", "to_do"),
    [
        ("behind", {"before_a_gap": 5}, ADOPT_TO_DO),
        ("behind", {"before_a_gap": 5, "too_many_deletes": 1}, HELD_TO_DO),
        (None, {"before_a_gap": 5}, HELD_TO_DO),
    ],
)
def test_what_it_holds_is_not_to_be_released_before_it_is_adopted(
    gap: str | None, held: dict[str, int], to_do: str
) -> None:
    told = judge(overview(connection(gap=gap, outbox={"held": sum(held.values())}, held=held)))
    assert [note.to_do for note in told.notes] == [to_do]
