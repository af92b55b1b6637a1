"""What becomes of uncertain rows: a case for each thing that a look at the API can find."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from sync.outbox.lookup_outcomes import ALONE_AGAIN, BLOCKED_ALONE, MAX_BLOCKS, resolve_lookup
from sync.outbox.outcomes import SET_ASIDE, Blocks, Completion
from sync.outbox.rules import TOGETHER, Operation, Status, Uncertain, Uncertainty

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
VOUCHER, CODE = UUID(int=1), UUID(int=2)
WORDS = "the API's words"
LOOKED_UP = Uncertain(1, Operation.ADD, UUID(int=9), 1, VOUCHER, None, NOON, Uncertainty.UNKNOWN, WORDS, 0, 0)


def look_at(row: Uncertain, code_ids: Mapping[int, UUID], *, unknown: Collection[int] = ()) -> Completion:
    """What becomes of one row."""
    ((_, completion),) = resolve_lookup([row], code_ids, unknown=unknown)
    return completion


@pytest.mark.parametrize("singled_out", [0, 1])
@pytest.mark.parametrize("blocked", [MAX_BLOCKS - 1, MAX_BLOCKS])
def test_a_blocked_change_fails_after_so_many_blocks_at_one_of_which_others_went_through(
    blocked: int, singled_out: int
) -> None:
    row = replace(LOOKED_UP, blocked_alone=blocked, singled_out=singled_out, last_error="its words")
    completion = look_at(row, {})
    if blocked >= MAX_BLOCKS and singled_out:
        assert (completion.status, completion.blocks) == (Status.FAILED, Blocks(0, 0))
        assert completion.error == f"{BLOCKED_ALONE}: its words"
    else:
        assert (completion.status, completion.blocks) == (Status.PENDING, None)


def test_a_look_completes_what_it_finds_and_says_what_the_mirror_cannot_show() -> None:
    rows = [LOOKED_UP, replace(LOOKED_UP, id=2)]
    shown, hidden = (one for _, one in resolve_lookup(rows, {1: CODE, 2: CODE}, hidden={2}))
    assert (shown.status, shown.error, hidden.status, hidden.error) == (Status.DONE, None, Status.DONE, SET_ASIDE)


def test_a_delete_of_a_code_that_the_api_does_not_know_fails() -> None:
    assert look_at(LOOKED_UP, {}, unknown={1}).status is Status.FAILED


NOT_FOUND = {
    Uncertainty.UNKNOWN: (Status.PENDING, "looked up: it had no effect"),
    Uncertainty.EXPIRED: (Status.PENDING, "looked up: it had no effect"),
    Uncertainty.UNWRITTEN: (Status.PENDING, "looked up: it had no effect"),
    Uncertainty.REFUSED: (Status.FAILED, WORDS),
    Uncertainty.UNLISTED: (
        Status.FAILED,
        "the API said that it was done, and lists no code of this value: look at the voucher's codes before you retry",
    ),
}


@pytest.mark.parametrize("because", Uncertainty)
def test_why_it_is_uncertain_decides_over_what_a_look_does_not_find(because: Uncertainty) -> None:
    completion = look_at(replace(LOOKED_UP, uncertain_because=because), {})
    assert (completion.status, completion.error) == NOT_FOUND[because]


def test_what_stays_unknown_though_it_goes_alone_waits_before_it_goes_again() -> None:
    waits = [look_at(replace(LOOKED_UP, attempts=attempts), {}).wait for attempts in range(len(TOGETHER) + 2)]
    assert waits == [timedelta()] * len(TOGETHER) + [ALONE_AGAIN] * 2
