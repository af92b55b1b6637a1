"""What becomes of rows by the outcome of their call, or by a look at the API: pure decisions, which others write down.

`resolve` has a case for each outcome. How long a row waits is told as a length of time: by the database's clock, which
alone decides what is due, it begins when the decision is committed.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random
from typing import NamedTuple
from uuid import UUID

from sync.core.api_errors import ApiError
from sync.core.retry import Backoff
from sync.mews.records import Rejected, VoucherCode
from sync.outbox.rules import TOGETHER, Decision, Fail, Operation, Row, Stands, Status, Uncertain, Uncertainty, Verdict

RETRY = Backoff(base_s=1.0, cap_s=60.0)
MAX_BLOCKS = 5
"""A proxy may block any call now and then; so many times alone, with growing pauses between them, are no chance."""
ALONE_AGAIN = timedelta(minutes=1)
"""How soon a change is sent again that goes alone by now and whose outcome is unknown all the same."""

AMONG_OTHERS = "refused among others"
"""A call that was refused as a whole, which proves nothing of each change in it."""
NOT_LISTED = "the answer does not list it"
BESIDE_REFUSED = "not sent yet: the call that was to carry it was refused for other changes in it"
BLOCKED_ALONE = (
    "something between here and the API, as a proxy or firewall, lets all but this change through; have this one let "
    "through, then retry it"
)
SET_ASIDE = "done in Mews; the mirror does not show it, since something on its table refuses the row"


class Blocks(NamedTuple):
    """How often a change was blocked alone, and at how many of these times its neighbours went through."""

    alone: int
    singled_out: int


@dataclass(frozen=True, slots=True)
class Completion:
    """What becomes of rows of an attempt, and what is noted of it.

    `status`: `sending` keeps them claimed, to be sent in smaller groups. `uncertain_because`: why, where that is their
    status. `wait`: until they are sent, or looked up, again. `was_sent`: False leaves nothing among the attempts.
    `blocks`: what the rows count from now on; None: what they counted. `code_ids`: the code in which each stands.
    """

    status: Status
    outcome: str
    error: str | None = None
    http_status: int | None = None
    request_id: str | None = None
    wait: timedelta = timedelta()
    was_sent: bool = True
    uncertain_because: Uncertainty | None = None
    blocks: Blocks | None = None
    code_ids: Mapping[int, UUID] = field(default_factory=dict, compare=False)


Resolved = tuple[Sequence[Row | Uncertain], Completion]
"""Rows, and what becomes of them."""
LookedUp = tuple[Sequence[Uncertain], Completion]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a call: `verdict` is None if it did what it was to do.

    `codes`: those that the answer to an add lists, in any order, and `rejected` what of them cannot be read. `is_gone`:
    a delete was refused alone, and the API shows its code as deleted. `is_singled_out`: a change was blocked alone, and
    other calls went through since it last was.
    """

    verdict: Verdict | None
    error: ApiError | None = None
    codes: Sequence[VoucherCode] = ()
    rejected: Sequence[Rejected] = ()
    is_gone: bool = False
    is_singled_out: bool = False


@dataclass(frozen=True, slots=True)
class Waits:
    """`before_look`: after so long the API shows what it was sent. `rng` draws from `retry` when it goes again."""

    before_look: timedelta
    rng: Random
    retry: Backoff = RETRY


def resolve(rows: Sequence[Row], outcome: Outcome, waits: Waits) -> list[Resolved]:
    """What becomes of the rows that a call carried, by its outcome."""
    match outcome.verdict:
        case None:
            # Done, and it says in which codes.
            return _done(rows, outcome, waits)
        case Verdict.UNKNOWN:
            # It may have had its effect, so nothing is sent again before a look, once the API must show that.
            return [(rows, _unknown(outcome, waits))]
        case Verdict.BLOCKED:
            # As unknown, and counted for a change that went alone.
            return [(rows, _blocked(rows, outcome, waits))]
        case Verdict.REFUSED if len(rows) > 1:
            # Without effect, for something in it: the rows stay claimed, and go in smaller groups.
            return [(rows, stay_claimed(outcome))]
        case Verdict.REFUSED:
            # Without effect, for this very change.
            return _refused(rows[0], outcome, waits)
        case Verdict.NOT_PROCESSED | Verdict.NOT_ALLOWED as verdict:
            # Without effect, for a reason that is in none of the changes: they go again later.
            return [(rows, _again(rows, verdict, outcome.error, waits))]


def stay_claimed(outcome: Outcome) -> Completion:
    """Rows of a call that was refused as a whole, or of which it is to be seen yet what the refusal means."""
    return _completion(Status.SENDING, AMONG_OTHERS, outcome.error)


def resolve_proved(rows: Sequence[Row], outcome: Outcome, waits: Waits) -> list[Resolved]:
    """Rows that the refusal of another one alone proves to be refused as well fail without being sent."""
    return _fail(rows, _failed(outcome), waits)


def resolve_left(rows: Sequence[Row], outcome: Outcome, waits: Waits) -> list[Resolved]:
    """Rows of a refused call that are not sent this time go again later. `outcome`: of the last call that was made."""
    if not rows:
        return []
    again = _again(rows, Verdict.NOT_PROCESSED, outcome.error, waits)
    return [(rows, replace(again, error=BESIDE_REFUSED) if outcome.verdict is Verdict.REFUSED else again)]


def resolve_unsent(rows: Sequence[Row], decisions: Mapping[int, Decision]) -> list[Resolved]:
    """Rows that need no call: their effect stands already, or they fail for what the mirror shows."""
    stands = {row_id: one.voucher_code_id for row_id, one in decisions.items() if isinstance(one, Stands)}
    found = Completion(Status.DONE, "done", was_sent=False, code_ids=stands)
    failed = defaultdict[str, list[Row]](list)
    for row in rows:
        if isinstance(one := decisions[row.id], Fail):
            failed[one.reason].append(row)
    return [
        ([row for row in rows if row.id in stands], found),
        *((same, Completion(Status.FAILED, "failed", reason, was_sent=False)) for reason, same in failed.items()),
    ]


def resolve_lookup(
    rows: Sequence[Uncertain],
    code_ids: Mapping[int, UUID],
    *,
    hidden: Collection[int] = (),
    unknown: Collection[int] = (),
) -> list[LookedUp]:
    """What becomes of uncertain rows by a look at the API; rows of which it tells nothing else had no effect.

    `code_ids`: the code in which each stands that had its effect, `hidden` those of them that the mirror cannot show.
    `unknown`: deletes whose code the API does not know.
    """
    of_rows = defaultdict[Completion, list[Uncertain]](list)
    for row in rows:
        if row.id in code_ids:
            # Its effect stands.
            completion = Completion(Status.DONE, "done", SET_ASIDE if row.id in hidden else None, code_ids=code_ids)
        elif row.id in unknown:
            # There is nothing to delete, and nobody knows whether there ever was.
            words = "looked up: the API does not know the code"
            completion = Completion(Status.FAILED, Verdict.REFUSED, words, blocks=Blocks(0, 0))
        else:
            completion = _without_effect(row)
        of_rows[completion].append(row)
    return [(same, completion) for completion, same in of_rows.items()]


def _unknown(outcome: Outcome, waits: Waits) -> Completion:
    unknown = _completion(Status.UNCERTAIN, outcome.verdict or "", outcome.error, waits.before_look)
    return replace(unknown, uncertain_because=Uncertainty.UNKNOWN)


def _blocked(rows: Sequence[Row], outcome: Outcome, waits: Waits) -> Completion:
    unknown = _unknown(outcome, waits)
    if len(rows) > 1:
        return unknown
    (row,) = rows
    return replace(unknown, blocks=Blocks(row.blocked_alone + 1, row.singled_out + outcome.is_singled_out))


def _done(rows: Sequence[Row], outcome: Outcome, waits: Waits) -> list[Resolved]:
    made: dict[tuple[UUID | None, str | None], UUID]
    made = {(code.voucher_id, code.value): code.id for code in outcome.codes}
    found = {row.id: row.target_code_id or made.get((row.voucher_id, row.value)) for row in rows}
    code_ids = {row_id: code_id for row_id, code_id in found.items() if code_id is not None}
    done = Completion(Status.DONE, "done", http_status=200, code_ids=code_ids)
    # Nothing says under which value the API keeps it, so it is looked up.
    unlisted = Completion(
        Status.UNCERTAIN, Uncertainty.UNLISTED, NOT_LISTED, 200, wait=waits.before_look,
        uncertain_because=Uncertainty.UNLISTED,
    )  # fmt: skip
    if len(code_ids) == len(rows):
        return [(rows, done)]
    listed, missing = ([row for row in rows if (row.id in code_ids) is is_listed] for is_listed in (True, False))
    return [(listed, done), (missing, unlisted)]


def _refused(row: Row, outcome: Outcome, waits: Waits) -> list[Resolved]:
    if row.operation is Operation.ADD or not outcome.is_gone:
        return _fail([row], _failed(outcome), waits)
    if row.voucher_code_id is not None:
        # Somebody else has deleted the very code that it names.
        return _done([row], outcome, waits)
    # Somebody else has deleted the code that had this value; it may be another one's by now.
    return [([row], replace(_again([row], Verdict.REFUSED, outcome.error, waits), blocks=Blocks(0, 0)))]


def _fail(rows: Sequence[Row], failed: Completion, waits: Waits) -> list[Resolved]:
    """Fail rows, but have looked up once more what an earlier attempt without an answer may have done.

    What an add has made shows late, and a refusal as its own double can be the first sign of it.
    """
    looked_up = replace(failed, status=Status.UNCERTAIN, wait=waits.before_look, uncertain_because=Uncertainty.REFUSED)
    unknown, known = (
        [row for row in rows if bool(row.unknown_since_utc) is is_unknown] for is_unknown in (True, False)
    )
    return [(unknown, looked_up), (known, failed)]


def _without_effect(row: Uncertain) -> Completion:
    match row.uncertain_because:
        case Uncertainty.UNLISTED:
            # Sent again, it would be made twice if the API has changed its value.
            words = "the API said that it was done, and lists no code of this value: look at the voucher's codes before"
            return Completion(Status.FAILED, Uncertainty.UNLISTED, f"{words} you retry", blocks=Blocks(0, 0))
        case Uncertainty.REFUSED:
            # So the refusal stands, which came after the attempt that was looked up.
            return Completion(Status.FAILED, Verdict.REFUSED, row.last_error, blocks=Blocks(0, 0))
        case Uncertainty.UNKNOWN if row.blocked_alone >= MAX_BLOCKS and row.singled_out:
            # It is this change that is never let through: a proxy that blocks a call by chance must not fail one for
            # good, and one that blocks everything proves nothing of a single change.
            words = f"{BLOCKED_ALONE}: {row.last_error}"
            return Completion(Status.FAILED, Verdict.BLOCKED, words, blocks=Blocks(0, 0))
        case Uncertainty.UNKNOWN | Uncertainty.EXPIRED | Uncertainty.UNWRITTEN:
            wait = timedelta() if row.attempts < len(TOGETHER) else ALONE_AGAIN
            return Completion(Status.PENDING, Verdict.NOT_PROCESSED, "looked up: it had no effect", wait=wait)


def _again(rows: Sequence[Row], outcome: str, error: ApiError | None, waits: Waits) -> Completion:
    # Of the row that was sent the fewest times: one that fails ever again must not keep its neighbours waiting.
    pause_s = waits.retry.pause_s(min(row.attempts for row in rows), waits.rng)
    wait_s = max(pause_s, (error.retry_after_s or 0.0) if error else 0.0)
    return _completion(Status.PENDING, outcome, error, timedelta(seconds=wait_s))


def _failed(outcome: Outcome) -> Completion:
    return replace(_completion(Status.FAILED, Verdict.REFUSED, outcome.error), blocks=Blocks(0, 0))


def _completion(status: Status, outcome: str, error: ApiError | None, wait: timedelta = timedelta()) -> Completion:
    http_status, request_id = (error.status, error.request_id) if error else (None, None)
    words = error.api_message or error.summary if error else None
    return Completion(status, outcome, words, http_status, request_id, wait)
