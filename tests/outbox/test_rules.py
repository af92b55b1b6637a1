"""The outbox's states, what each outcome of a call proves, what becomes of a delete, and when deletes look wrong."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

import pytest

from sync.core import api_errors
from sync.mews.failures import BY_STATUS
from sync.outbox.rules import (
    MOVES,
    USER_MOVES,
    VERDICTS,
    Decision,
    Fail,
    Operation,
    Row,
    Send,
    Stands,
    Status,
    Verdict,
    Wait,
    is_suspicious,
    resolve_delete,
    send_together,
)

DESIGN = {
    "pending": {"sending", "cancelled", "held"},
    "sending": {"done", "pending", "uncertain", "failed"},
    "uncertain": {"done", "pending", "failed"},
    "held": {"pending", "cancelled"},
    "done": set[str](),
    "failed": {"pending"},
    "cancelled": set[str](),
}
"""The table of states in docs/architecture.md."""
BY_USERS = {"pending": {"cancelled"}, "held": {"pending", "cancelled"}, "failed": {"pending"}}
"""By its last column: what is unsent is cancelled, what is held released, and what failed retried."""

PROVES = {
    400: Verdict.REFUSED,
    401: Verdict.NOT_ALLOWED,
    403: Verdict.REFUSED,
    404: Verdict.NOT_ALLOWED,
    408: Verdict.UNKNOWN,
    409: Verdict.NOT_PROCESSED,
    410: Verdict.NOT_ALLOWED,
    413: Verdict.REFUSED,
    429: Verdict.NOT_PROCESSED,
}
"""docs/mews-api.md, *Limits and errors*: what a write with this status did, and whether the same can end otherwise."""
WITHOUT_A_STATUS = {
    api_errors.NotConnected: Verdict.NOT_PROCESSED,
    api_errors.CircuitOpen: Verdict.NOT_PROCESSED,
    api_errors.UndocumentedAnswer: Verdict.REFUSED,
    api_errors.NotFromApi: Verdict.BLOCKED,
    api_errors.ServerError: Verdict.UNKNOWN,
    api_errors.ConnectionLost: Verdict.UNKNOWN,
    api_errors.InvalidResponse: Verdict.UNKNOWN,
    api_errors.ResponseTooLarge: Verdict.UNKNOWN,
}
"""Its row on 5xx, broken connections and time-outs, what was not sent at all, and answers that were not read."""


def raised_below(kind: type[api_errors.ApiError]) -> Iterator[type[api_errors.ApiError]]:
    """The errors that are raised, which say in a summary of their own what happened; the others only group them."""
    for child in kind.__subclasses__():
        if "summary" in vars(child):
            yield child
        yield from raised_below(child)


def plain(moves: dict[Status, frozenset[Status]]) -> dict[str, set[str]]:
    return {old.value: {new.value for new in following} for old, following in moves.items()}


def test_the_moves_are_those_of_the_design() -> None:
    assert plain(MOVES) == DESIGN


def test_users_move_only_what_is_not_under_way() -> None:
    assert plain(USER_MOVES) == BY_USERS
    assert all(following <= MOVES[old] for old, following in USER_MOVES.items())


def test_every_error_of_a_call_has_one_verdict_and_nothing_else_has_any() -> None:
    found = list(raised_below(api_errors.ApiError))
    assert len(found) == len(set(found))
    assert set(VERDICTS) == set(found)


@pytest.mark.parametrize("status", sorted(BY_STATUS))
def test_an_answer_proves_what_the_documentation_says(status: int) -> None:
    assert VERDICTS[BY_STATUS[status]] is PROVES[status]


@pytest.mark.parametrize("kind", WITHOUT_A_STATUS)
def test_a_call_without_a_documented_answer_proves_what_was_sent(kind: type[api_errors.ApiError]) -> None:
    assert VERDICTS[kind] is WITHOUT_A_STATUS[kind]


def test_these_are_all_verdicts() -> None:
    documented = {BY_STATUS[status]: verdict for status, verdict in PROVES.items()}
    assert documented | WITHOUT_A_STATUS == VERDICTS


@pytest.mark.parametrize("kind", VERDICTS)
def test_only_what_may_have_happened_is_looked_up(kind: type[api_errors.ApiError]) -> None:
    assert (VERDICTS[kind] in {Verdict.UNKNOWN, Verdict.BLOCKED}) == issubclass(kind, api_errors.OutcomeUnknown)


A, B, C = UUID(int=1), UUID(int=2), UUID(int=3)


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def asked(number: int, *, unknown: int = 0, refused: int = 0) -> Row:
    """An add that was sent so often without an answer, or refused."""
    attempts, since = unknown or refused, NOON if unknown else None
    return Row(number, Operation.ADD, A, "A", None, None, None, None, attempts, NOON, since, 0, 0)


def parts(rows: Sequence[Row]) -> list[list[Row]]:
    """What goes in one call after the other."""
    left, sent = list(rows), list[list[Row]]()
    while left:
        sent.append(send_together(left))
        left = [row for row in left if row not in sent[-1]]
    return sent


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (1000, [1000, 250, 63, 16, 4, 1, 1]),
        (60, [60, 15, 4, 1, 1, 1, 1]),
        (41, [41, 11, 3, 1, 1, 1, 1]),
        (5, [5, 2, 1, 1, 1, 1, 1]),
        (1, [1, 1, 1, 1, 1, 1, 1]),
    ],
)
@pytest.mark.parametrize("first", [0, 7, 12_345])
def test_what_stays_unknown_goes_in_a_quarter_each_time_until_it_goes_alone(
    count: int, sizes: list[int], first: int
) -> None:
    """The largest part that stays unknown each time is what the next one is made of."""
    found, numbers = list[int](), list(range(first, first + count))
    for times in range(1, len(sizes) + 1):
        sent = parts([asked(number, unknown=times) for number in numbers])
        largest = max(sent, key=len)
        assert len(sent) <= 5  # no more calls than parts, whatever their number; and a rest behind the most that may go
        found.append(len(largest))
        numbers = [row.id for row in largest]
    assert all(abs(one - expected) <= 1 for one, expected in zip(found, sizes, strict=True))


@pytest.mark.parametrize("step", [1, 2, 4, 64, 4**6])
def test_whatever_their_numbers_are_they_go_alone_in_the_end(step: int) -> None:
    rows = [asked(number * step, unknown=6) for number in range(100)]
    assert [len(part) for part in parts(rows)] == [1] * 100


def test_what_stays_unknown_takes_nothing_along_and_keeps_nothing_back() -> None:
    fresh, refused = [asked(number) for number in range(30)], [asked(number, refused=9) for number in range(30, 60)]
    lost, doubtful = asked(60, unknown=1), asked(61, unknown=5)
    assert send_together([*fresh, doubtful, lost, *refused]) == [*fresh, lost, *refused]
    assert send_together([doubtful, *fresh]) == [doubtful]
    assert send_together([]) == []


@pytest.mark.parametrize("is_fresh", [False, True])
@pytest.mark.parametrize("deleted", [[], [B], [B, C]])
def test_a_delete_of_the_one_active_code_is_sent(deleted: Sequence[UUID], is_fresh: bool) -> None:
    assert resolve_delete([A], deleted, mirror_is_fresh=is_fresh) == Send(A)


@pytest.mark.parametrize("is_fresh", [False, True])
@pytest.mark.parametrize("deleted", [[], [C]])
def test_a_delete_never_guesses_between_active_codes(deleted: Sequence[UUID], is_fresh: bool) -> None:
    decision = resolve_delete([A, B], deleted, mirror_is_fresh=is_fresh)
    assert decision == Fail("2 active codes have this value: name one by voucher_code_id")


@pytest.mark.parametrize(
    ("deleted", "is_fresh", "expected"),
    [
        ([], False, Wait()),
        ([A], False, Wait()),
        ([A], True, Stands(A)),
        ([B, A], True, Stands(B)),
        ([], True, Fail("the API lists no such code for this connection")),
    ],
)
def test_a_delete_without_an_active_code_waits_for_a_fresh_mirror(
    deleted: Sequence[UUID], is_fresh: bool, expected: Decision
) -> None:
    assert resolve_delete([], deleted, mirror_is_fresh=is_fresh) == expected


@pytest.mark.parametrize(
    ("deletes", "codes", "expected"),
    [(99, 100, False), (100, 499, True), (100, 500, False), (200, 1000, False), (201, 1000, True), (100, 100, True)],
)
def test_more_than_a_fifth_of_what_there_was_and_at_least_a_hundred(deletes: int, codes: int, expected: bool) -> None:
    assert is_suspicious(deletes, codes, share=0.2, at_least=100) is expected


@pytest.mark.parametrize(("share", "expected"), [(0.0, True), (0.99, True), (1.0, False)])
def test_the_share_is_a_setting(share: float, expected: bool) -> None:
    assert is_suspicious(10, 10, share=share, at_least=1) is expected
    assert is_suspicious(0, 10, share=share, at_least=1) is False
