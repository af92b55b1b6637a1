"""What becomes of rows: a case for each outcome of a call, and all calls of a refused batch together."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from sync.core import api_errors
from sync.core.bisection import Bisection
from sync.mews.records import VoucherCode
from sync.outbox.outcomes import (
    AMONG_OTHERS,
    BESIDE_REFUSED,
    MAX_REFUSED,
    RETRY,
    Blocks,
    Completion,
    Outcome,
    Resolution,
    Waits,
    resolve,
    resolve_unsent,
)
from sync.outbox.rules import (
    Decision,
    Fail,
    Operation,
    Row,
    Send,
    Stands,
    Status,
    Uncertain,
    Uncertainty,
    Verdict,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
VOUCHER, CODE = UUID(int=1), UUID(int=2)
WAITS = Waits(timedelta(seconds=15), random.Random(1))
ADD = Row(1, Operation.ADD, VOUCHER, "A", None, None, None, None, 1, NOON, None, 0, 0)
OTHER = replace(ADD, id=2, value="B")
DELETE = replace(ADD, operation=Operation.DELETE, target_code_id=CODE)
WORDS = "the API's words"


def refusal(**fields: object) -> Outcome:
    error = api_errors.InvalidRequest("voucherCodes/add", WORDS, status=400, request_id="request 1")
    return replace(Outcome(Verdict.REFUSED, error), **fields)  # type: ignore[arg-type]  # a field of the outcome's


def only(resolved: Sequence[tuple[Sequence[Row | Uncertain], Completion]]) -> Completion:
    """What becomes of all rows alike."""
    ((_, completion),) = [one for one in resolved if one[0]]
    return completion


def code(value: str, number: int) -> VoucherCode:
    return VoucherCode(UUID(int=number), VOUCHER, value, None, None, NOON, NOON, True)


def test_an_add_is_done_in_the_code_of_its_voucher_and_value_in_whatever_order_they_are_listed() -> None:
    done = only(resolve([ADD, OTHER], Outcome(None, codes=[code("B", 4), code("A", 3)]), WAITS))
    assert (done.status, done.code_ids) == (Status.DONE, {1: UUID(int=3), 2: UUID(int=4)})


def test_an_add_that_the_answer_does_not_list_is_looked_up() -> None:
    (listed, done), (missing, looked_up) = resolve([ADD, OTHER], Outcome(None, codes=[code("B", 4)]), WAITS)
    assert ([row.id for row in listed], [row.id for row in missing]) == ([2], [1])
    assert (done.status, looked_up.status) == (Status.DONE, Status.UNCERTAIN)
    assert (looked_up.uncertain_because, looked_up.wait) == (Uncertainty.UNLISTED, WAITS.before_look)


def test_a_delete_is_done_in_the_code_that_it_was_sent_for() -> None:
    done = only(resolve([DELETE], Outcome(None), WAITS))
    assert (done.status, done.code_ids) == (Status.DONE, {1: CODE})


def test_what_may_have_happened_is_looked_up_once_the_api_must_show_it() -> None:
    unknown = only(resolve([ADD, OTHER], Outcome(Verdict.UNKNOWN), WAITS))
    assert (unknown.status, unknown.uncertain_because) == (Status.UNCERTAIN, Uncertainty.UNKNOWN)
    assert unknown.wait == WAITS.before_look


def test_rows_of_a_call_that_was_refused_as_a_whole_stay_claimed() -> None:
    kept = only(resolve([ADD, OTHER], refusal(), WAITS))
    assert (kept.status, kept.outcome, kept.error) == (Status.SENDING, AMONG_OTHERS, WORDS)


@pytest.mark.parametrize("verdict", [Verdict.NOT_PROCESSED, Verdict.NOT_ALLOWED])
def test_what_had_no_effect_for_no_change_s_sake_goes_again_after_a_pause(verdict: Verdict) -> None:
    often = replace(ADD, attempts=30)
    for _ in range(100):
        again = only(resolve([often, OTHER], Outcome(verdict), WAITS))
        assert (again.status, again.outcome) == (Status.PENDING, verdict)
        # Of the one that was sent the fewest times.
        assert again.wait <= timedelta(seconds=RETRY.base_s)


@pytest.mark.parametrize("row", [ADD, DELETE], ids=["add", "delete"])
def test_a_change_that_is_refused_alone_fails_with_the_api_s_words_and_counts_its_blocks_anew(row: Row) -> None:
    failed = only(resolve([row], refusal(), WAITS))
    assert (failed.status, failed.error, failed.http_status) == (Status.FAILED, WORDS, 400)
    assert (failed.request_id, failed.blocks) == ("request 1", Blocks(0, 0))


def test_what_is_refused_after_an_attempt_without_an_answer_is_looked_up_first() -> None:
    looked_up = only(resolve([replace(ADD, unknown_since_utc=NOON)], refusal(), WAITS))
    assert (looked_up.status, looked_up.error) == (Status.UNCERTAIN, WORDS)
    assert (looked_up.uncertain_because, looked_up.wait) == (Uncertainty.REFUSED, WAITS.before_look)


def test_a_delete_whose_code_somebody_else_deleted_is_done_where_it_names_that_code_and_else_goes_again() -> None:
    done = only(resolve([replace(DELETE, voucher_code_id=CODE)], refusal(is_gone=True), WAITS))
    assert (done.status, done.code_ids) == (Status.DONE, {1: CODE})
    again = only(resolve([DELETE], refusal(is_gone=True), WAITS))
    assert (again.status, again.outcome) == (Status.PENDING, Verdict.REFUSED)


@pytest.mark.parametrize("is_singled_out", [False, True])
def test_what_something_on_the_way_answered_is_looked_up_and_counted_for_a_change_that_went_alone(
    is_singled_out: bool,
) -> None:
    blocked = replace(refusal(), verdict=Verdict.BLOCKED, is_singled_out=is_singled_out)
    alone = only(resolve([replace(ADD, blocked_alone=2, singled_out=1)], blocked, WAITS))
    assert (alone.status, alone.uncertain_because) == (Status.UNCERTAIN, Uncertainty.UNKNOWN)
    assert (alone.wait, alone.blocks) == (WAITS.before_look, Blocks(3, 1 + is_singled_out))
    assert only(resolve([ADD, OTHER], blocked, WAITS)).blocks is None


def test_a_batch_that_had_its_effect_is_told_of_by_one_call() -> None:
    resolution = Resolution(Bisection([ADD, OTHER]), WAITS)
    assert resolution.group == [ADD, OTHER]
    done = only(resolution.take([ADD, OTHER], Outcome(None, codes=[code("A", 3), code("B", 4)])))
    assert done.status is Status.DONE
    assert not resolution.group
    assert not resolution.left


def test_a_refused_batch_is_told_of_group_by_group() -> None:
    rows = [replace(ADD, id=number, value=str(number)) for number in range(8)]
    resolution, became = Resolution(Bisection(rows), WAITS), dict[int, Status]()
    while group := resolution.group:
        is_refused = any(row.id in {2, 5} for row in group)
        outcome = refusal() if is_refused else Outcome(None, codes=[code(str(row.id), row.id) for row in group])
        became |= {row.id: one.status for same, one in resolution.take(group, outcome) for row in same}
    assert became == {row.id: Status.FAILED if row.id in {2, 5} else Status.DONE for row in rows}
    assert resolution.left == []


@pytest.mark.parametrize("verdict", [Verdict.NOT_PROCESSED, Verdict.NOT_ALLOWED])
def test_what_is_not_sent_after_a_refusal_goes_another_time_and_says_so(verdict: Verdict) -> None:
    rows = [replace(ADD, id=number) for number in range(4)]
    resolution = Resolution(Bisection(rows), WAITS)
    resolution.take(rows, refusal())
    resolution.take(resolution.group, replace(refusal(), verdict=verdict))
    assert resolution.group == ()
    assert [row.id for row in resolution.left[0][0]] == [2, 3]
    assert (only(resolution.left).status, only(resolution.left).error) == (Status.PENDING, WORDS)


def test_after_many_that_were_refused_alone_the_rest_goes_another_time() -> None:
    rows = [replace(ADD, id=number) for number in range(2 * MAX_REFUSED)]
    resolution, failed = Resolution(Bisection(rows), WAITS), 0
    while group := resolution.group:
        failed += any(one.status is Status.FAILED for _, one in resolution.take(group, refusal()))
    assert failed == MAX_REFUSED
    assert len(resolution.left[0][0]) == MAX_REFUSED
    assert only(resolution.left).error == BESIDE_REFUSED


def test_what_a_refused_voucher_proves_of_its_other_changes_is_not_sent_and_fails_unless_its_past_is_unknown() -> None:
    unknown, third = replace(OTHER, unknown_since_utc=NOON), replace(ADD, id=3)
    elsewhere = replace(ADD, id=4, voucher_id=UUID(int=7))
    resolution = Resolution(Bisection([ADD, unknown, third, elsewhere]), WAITS)
    resolution.take(resolution.group, refusal())
    resolution.take(resolution.group, refusal())
    of_voucher = refusal(error=api_errors.InvalidRequest("voucherCodes/add", "Invalid VoucherId", status=400))
    assert resolution.group == [ADD]
    resolution.take(resolution.group, of_voucher)
    assert resolution.group == [elsewhere]
    resolution.take(resolution.group, Outcome(None))
    statuses = {row.id: one.status for same, one in resolution.left for row in same}
    assert statuses == {2: Status.UNCERTAIN, 3: Status.FAILED}


@pytest.mark.parametrize("name", ["VoucherId", "EnterpriseId"])
def test_a_code_that_is_called_like_a_parameter_proves_nothing_of_others_where_its_refusal_quotes_it(name: str) -> None:
    named = replace(ADD, value=name)
    error = api_errors.InvalidRequest("voucherCodes/add", f"Invalid value {name.lower()}: {name}", status=400)
    resolution = Resolution(Bisection([named, OTHER]), WAITS)
    resolution.take(resolution.group, refusal())
    resolution.take(resolution.group, refusal(error=error))
    assert (resolution.group, resolution.left) == ([OTHER], [])


def test_what_needs_no_call_is_completed_by_what_was_decided_and_leaves_no_attempt() -> None:
    rows = [replace(ADD, id=number) for number in range(4)]
    decisions: dict[int, Decision] = {0: Send(), 1: Stands(CODE), 2: Fail("so"), 3: Fail("otherwise")}
    resolved = [(row.id, one) for same, one in resolve_unsent(rows, decisions) for row in same]
    assert [(number, one.status, one.error) for number, one in resolved] == [
        (1, Status.DONE, None),
        (2, Status.FAILED, "so"),
        (3, Status.FAILED, "otherwise"),
    ]
    assert resolved[0][1].code_ids == {1: CODE}
    assert not any(one.was_sent for _, one in resolved)
