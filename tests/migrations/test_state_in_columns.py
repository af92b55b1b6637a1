"""State that stood in the history of attempts stands in the rows, whichever release has written them."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from sync.postgres.migrations import migrate
from tests.migrations.helpers import upgrade

BEFORE = "0009"
ROW = """
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value)
VALUES ('add', '00000000-0000-0000-0000-000000000001', gen_random_uuid()::text) RETURNING id
"""
CLAIMED = """
UPDATE mews.voucher_code_outbox SET status = 'sending', attempt_id = gen_random_uuid(), connection = 'default',
  attempts = attempts + 1, sent_at = %(at)s::timestamptz, first_sent_utc = coalesce(first_sent_utc, now())
WHERE id = %(id)s
"""
ENDED = """
UPDATE mews.voucher_code_outbox SET status = %(status)s, last_error = %(error)s,
  finished_at = CASE WHEN %(status)s IN ('failed', 'done') THEN now() END, voucher_code_id = gen_random_uuid()
WHERE id = %(id)s
"""
NOTED = """
INSERT INTO mews.voucher_code_outbox_attempts (outbox_id, attempt_id, sent_at, outcome)
SELECT id, attempt_id, sent_at, %(outcome)s FROM mews.voucher_code_outbox WHERE id = %(id)s
"""
LOST = "the process that sent it ended before it had noted an answer"


class Release0:
    """Writes rows as the release before does, which knows no such columns."""

    def __init__(self, url: str) -> None:
        self._session = psycopg.connect(url, autocommit=True, row_factory=dict_row)
        self._session.execute("SELECT set_config('voucher_sync.daemon', 'on', false)")

    def close(self) -> None:
        self._session.close()

    def queue(self) -> int:
        (row,) = self._session.execute(ROW)
        return int(row["id"])

    def send(self, row_id: int, day: int = 1) -> None:
        self._session.execute(CLAIMED, {"id": row_id, "at": f"2026-01-{day:02}"})

    def end(self, row_id: int, status: str, outcome: str | None, error: str | None = None) -> None:
        self._session.execute(ENDED, {"id": row_id, "status": status, "error": error})
        if outcome:
            self._session.execute(NOTED, {"id": row_id, "outcome": outcome})

    def retry(self, row_id: int) -> None:
        self._session.execute(
            "UPDATE mews.voucher_code_outbox SET status = 'pending', finished_at = NULL WHERE id = %s", [row_id]
        )

    def row(self, row_id: int) -> dict[str, Any]:
        (row,) = self._session.execute("SELECT * FROM mews.voucher_code_outbox WHERE id = %s", [row_id])
        return row


@pytest.fixture
def before_url(empty_database_url: str) -> str:
    upgrade(empty_database_url, BEFORE)
    return empty_database_url


@pytest.fixture
def release(before_url: str) -> Iterator[Release0]:
    release = Release0(before_url)
    yield release
    release.close()


UNCERTAIN = [
    ("unknown", None, "unknown"),
    ("unlisted", "the answer does not list it", "unlisted"),
    ("refused", "a double", "refused"),
    (None, LOST, "expired"),
    ("refused among others", LOST, "expired"),
    (None, "something on the table of the outbox refuses it", "unknown"),
]


@pytest.mark.sampled
@pytest.mark.parametrize(("outcome", "error", "because"), UNCERTAIN)
def test_why_a_row_is_uncertain_is_taken_from_its_last_attempt(
    release: Release0, before_url: str, outcome: str | None, error: str | None, because: str
) -> None:
    row_id = release.queue()
    release.send(row_id)
    release.end(row_id, "uncertain", outcome, error)
    migrate(before_url)
    assert release.row(row_id)["uncertain_because"] == because


@pytest.mark.long
@pytest.mark.parametrize(
    ("outcomes", "blocked", "singled_out"),
    [
        ([], 0, 0),
        (["not processed"], 0, 0),
        (["blocked", "singled out", "blocked"], 3, 1),
        (["blocked", "singled out", "refused"], 0, 0),
        (["singled out", "refused", "blocked"], 1, 0),
    ],
)
def test_blocks_since_the_last_failure_and_the_first_sending_are_taken_from_the_history(
    release: Release0, before_url: str, outcomes: list[str], blocked: int, singled_out: int
) -> None:
    row_id = release.queue()
    for day, outcome in enumerate(outcomes, 1):
        release.send(row_id, day)
        release.end(row_id, "pending", outcome)
    migrate(before_url)
    row = release.row(row_id)
    assert (row["blocked_alone"], row["singled_out"], row["uncertain_because"]) == (blocked, singled_out, None)
    assert (row["first_sent_at"] and row["first_sent_at"].day) == (1 if outcomes else None)


@pytest.mark.long
def test_the_release_before_goes_on_and_what_it_writes_is_filled_in(release: Release0, before_url: str) -> None:
    migrate(before_url)
    for outcome, error, because in UNCERTAIN:
        row_id = release.queue()
        for day in (1, 2):
            release.send(row_id, day)
            release.end(row_id, "uncertain", outcome, error)
            row = release.row(row_id)
            # It notes the outcome after it has written the row, so only the words tell; what is refused goes once more.
            assert row["uncertain_because"] == (because if because != "refused" else "unknown")
            assert row["first_sent_at"].day == 1
            release.end(row_id, "pending", None)
            assert release.row(row_id)["uncertain_because"] is None


@pytest.mark.long
def test_a_failure_that_the_release_before_writes_has_blocks_counted_anew(release: Release0, before_url: str) -> None:
    row_id = release.queue()
    release.send(row_id)
    release.end(row_id, "pending", "singled out")
    migrate(before_url)
    assert release.row(row_id)["blocked_alone"] == 1
    release.send(row_id)
    release.end(row_id, "failed", "refused")
    release.retry(row_id)
    row = release.row(row_id)
    assert (row["status"], row["blocked_alone"], row["singled_out"]) == ("pending", 0, 0)


@pytest.mark.long
def test_finished_rows_are_not_written_anew(release: Release0, before_url: str) -> None:
    row_id = release.queue()
    release.send(row_id)
    release.end(row_id, "done", "done")
    version = "SELECT xmin::text FROM mews.voucher_code_outbox"
    with psycopg.connect(before_url) as session:
        before = session.execute(version).fetchall()
    migrate(before_url)
    with psycopg.connect(before_url) as session:
        assert session.execute(version).fetchall() == before
