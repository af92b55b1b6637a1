"""What becomes of a batch's rows by the outcomes of its calls: pure decisions, which others write down.

`resolve` has a case for each outcome, and `Resolution` takes those of a batch's calls in turn. How long a row waits is
told as a length of time: by the database's clock, which alone decides what is due, it begins with the commit.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random
from typing import NamedTuple
from uuid import UUID

from sync.core.api_errors import ApiError, InvalidRequest
from sync.core.bisection import Bisection
from sync.core.printable import quoted
from sync.core.retry import Backoff
from sync.mews.records import Rejected, VoucherCode
from sync.outbox.rules import Decision, Fail, Operation, Row, Stands, Status, Uncertain, Uncertainty, Verdict

RETRY = Backoff(base_s=1.0, cap_s=60.0)
MAX_REFUSED = 50
"""After so many changes that were refused alone, others get their turn, and the rest of the batch another one."""
VOUCHER_ID, ENTERPRISE_ID = "VoucherId", "EnterpriseId"
"""As the API names the parameter that it refuses: `Invalid VoucherId`."""
IDS = (VOUCHER_ID, ENTERPRISE_ID, "VoucherCodeIds")
"""What it refuses where a token does not see whose they are."""

AMONG_OTHERS = "refused among others"
"""A call that was refused as a whole, which proves nothing of each change in it."""
NOT_LISTED = "the answer does not list it"
BESIDE_REFUSED = "not sent yet: the call that was to carry it was refused for other changes in it"
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


class Resolution:
    """Decides over a batch, call after call: `while group: take(its outcome)`. A bisection begins with all of it.

    `group`: what to send next; empty where nothing more of the batch is sent this time. `left`: then, what becomes of
    rows of which no call told. They are proved to be refused as well, or go another time.
    """

    def __init__(self, bisection: Bisection[Row], waits: Waits) -> None:
        self.group = bisection.group
        self.left: list[Resolved] = []
        self._waits = waits
        self._bisection = bisection
        self._untold = {row.id: row for row in bisection.group}
        self._refused = 0

    def take(self, sent: Sequence[Row], outcome: Outcome) -> list[Resolved]:
        """What becomes of the rows of the group that its call carried: all but those that are another attempt's."""
        is_refused = outcome.verdict is Verdict.REFUSED
        if not is_refused:
            self._note_told(self.group)
        elif len(self.group) == 1:
            self._take_refusal(self.group[0], outcome)
        self._bisection.tell(went_through=not is_refused)
        self.group = () if self._is_over(outcome) else self._bisection.group
        if not self.group:
            self.left += _untold([*self._untold.values()], outcome, self._waits)
        return resolve(sent, outcome, self._waits)

    def _is_over(self, outcome: Outcome) -> bool:
        return self._refused >= MAX_REFUSED or outcome.verdict in {Verdict.NOT_PROCESSED, Verdict.NOT_ALLOWED}

    def _note_told(self, rows: Iterable[Row]) -> None:
        for row in rows:
            del self._untold[row.id]

    def _take_refusal(self, row: Row, outcome: Outcome) -> None:
        """A change that is refused for its voucher alone proves that every other one of that voucher would be; one
        that is for its hotel, which all of a call have in common, that all would."""
        self._refused += 1
        self._note_told([row])
        if not isinstance(outcome.error, InvalidRequest):
            return
        # Without what it may quote: a code can be called like a parameter.
        words = quoted(row.value or "").sub("", outcome.error.api_message)
        is_for_hotel = ENTERPRISE_ID in words
        if is_for_hotel or VOUCHER_ID in words:
            others = self._untold.values()
            proved = [other for other in others if is_for_hotel or other.voucher_id == row.voucher_id]
            self._note_told(proved)
            self._bisection.drop(proved)
            self.left += _fail(proved, _failed(outcome), self._waits)


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
            return [(rows, _completion(Status.SENDING, AMONG_OTHERS, outcome.error))]
        case Verdict.REFUSED:
            # Without effect, for this very change.
            return _refused(rows[0], outcome, waits)
        case Verdict.NOT_PROCESSED | Verdict.NOT_ALLOWED as verdict:
            # Without effect, for a reason that is in none of the changes: they go again later.
            return [(rows, _again(rows, verdict, outcome.error, waits))]


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


def _untold(rows: Sequence[Row], outcome: Outcome, waits: Waits) -> list[Resolved]:
    """Rows of a refused call that are not sent this time go again later. `outcome`: of the last call that was made."""
    if not rows:
        return []
    again = _again(rows, Verdict.NOT_PROCESSED, outcome.error, waits)
    return [(rows, replace(again, error=BESIDE_REFUSED) if outcome.verdict is Verdict.REFUSED else again)]


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
