"""The outbox: the states of a row and its moves, what each outcome of a call proves, and what to do with a delete."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sync.core import api_errors


class Operation(StrEnum):
    """What a row asks for."""

    ADD = "add"
    DELETE = "delete"


class Status(StrEnum):
    """Where a row stands."""

    PENDING = "pending"
    """To be sent when it is due."""
    SENDING = "sending"
    """Claimed, which is committed before it is sent."""
    UNCERTAIN = "uncertain"
    """Whether it was done is unknown: it is looked up in the API before anything of it is sent again."""
    HELD = "held"
    """Stopped until somebody releases it: too many deletes, or queued before a restore, copy or loss of commits."""
    DONE = "done"
    """Its effect stands in `mews.voucher_codes`."""
    FAILED = "failed"
    """Refused for good; `last_error` says why, in the API's words."""
    CANCELLED = "cancelled"
    """Taken back before it was sent."""


MOVES: dict[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.SENDING, Status.CANCELLED, Status.HELD}),
    Status.SENDING: frozenset({Status.DONE, Status.PENDING, Status.UNCERTAIN, Status.FAILED}),
    Status.UNCERTAIN: frozenset({Status.DONE, Status.PENDING, Status.FAILED}),
    Status.HELD: frozenset({Status.PENDING, Status.CANCELLED}),
    Status.DONE: frozenset(),
    Status.FAILED: frozenset({Status.PENDING}),
    Status.CANCELLED: frozenset(),
}
"""Every move there is. A trigger refuses all others, and a test holds the two together."""

USER_MOVES: dict[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.CANCELLED}),
    Status.HELD: frozenset({Status.PENDING, Status.CANCELLED}),
    Status.FAILED: frozenset({Status.PENDING}),
}
"""The moves that users may make, by `voucher-sync outbox` or by an UPDATE of `status`; the others are the daemon's."""


class Uncertainty(StrEnum):
    """Why it is unknown of a row whether it was done; it decides what becomes of one that a look does not find done."""

    UNKNOWN = "unknown"
    """The call ended without an answer to rely on: what had no effect is sent again."""
    EXPIRED = "expired"
    """The process that sent it ended before it had noted an answer: what had no effect is sent again."""
    UNWRITTEN = "unwritten"
    """Something on the table refused what the answer proved: what had no effect is sent again."""
    UNLISTED = "unlisted"
    """The API said that the add was done, and did not list its code, which may stand under another value: it fails."""
    REFUSED = "refused"
    """It was refused, but an attempt before may have had its effect: what had none fails, with the API's words."""


class HeldBecause(StrEnum):
    """Why a row is held; somebody releases or cancels it, or adopts the database."""

    TOO_MANY_DELETES = "too_many_deletes"
    """It is one of more deletes than the guard on deletes lets through by themselves."""
    BEFORE_A_GAP = "before_a_gap"
    """It was queued before the database was restored, copied or lost commits, and may be done or cancelled already."""


class Verdict(StrEnum):
    """What an outcome proves about a write."""

    NOT_PROCESSED = "not processed"
    """Certainly without effect, for a reason that passes: send it again later."""
    REFUSED = "refused"
    """Certainly without effect, because of something in it: find out what, and send the rest."""
    BLOCKED = "blocked"
    """May have had its effect: something on the way answered, which may dislike something in it, or everything."""
    NOT_ALLOWED = "not allowed"
    """Certainly without effect, and so is whatever else this connection sends: stop pushing for it."""
    UNKNOWN = "unknown"
    """May have had its effect: look before anything is sent again."""


CLOCK_SKEW = timedelta(seconds=4)
"""How far what the API's `Date` tells may be from what its records are stamped with: 2 s of clock, and both are cut to
whole seconds."""

TOGETHER = (1000, 1000, 250, 63, 16, 4)
"""How many changes go in one call at most, by how often they were sent, where it is unknown what became of them; later
on, 1: the API may fail because of something in one, and then its neighbours must not fail with it for ever."""

WHOLE = 2
"""How often changes are sent together before they are sent in parts: most answers are lost for no fault of theirs."""

VERDICTS: dict[type[api_errors.ApiError], Verdict] = {
    api_errors.NotConnected: Verdict.NOT_PROCESSED,
    api_errors.CircuitOpen: Verdict.NOT_PROCESSED,
    api_errors.RateLimited: Verdict.NOT_PROCESSED,
    api_errors.Conflict: Verdict.NOT_PROCESSED,
    api_errors.UndocumentedAnswer: Verdict.REFUSED,
    api_errors.InvalidRequest: Verdict.REFUSED,
    api_errors.Forbidden: Verdict.REFUSED,
    api_errors.PayloadTooLarge: Verdict.REFUSED,
    api_errors.Unauthorized: Verdict.NOT_ALLOWED,
    api_errors.NotFound: Verdict.NOT_ALLOWED,
    api_errors.Discontinued: Verdict.NOT_ALLOWED,
    api_errors.RequestTimedOut: Verdict.UNKNOWN,
    api_errors.ResponseTooLarge: Verdict.UNKNOWN,
    api_errors.ServerError: Verdict.UNKNOWN,
    api_errors.ConnectionLost: Verdict.UNKNOWN,
    api_errors.NotFromApi: Verdict.BLOCKED,
    api_errors.InvalidResponse: Verdict.UNKNOWN,
}
"""docs/mews-api.md, *Limits and errors*, read for writes."""


@dataclass(frozen=True, slots=True)
class Row:
    """A claimed row, as far as sending and completing it go; `is_anothers`: its voucher is another connection's by now.

    `target_code_id`: the code that a claimed delete is sent for; `voucher_code_id` has it only where the row names it.
    `unknown_since_utc`: since when, by the API's clock, an attempt may have had its effect unseen; None: none may.
    `blocked_alone`: how often it was blocked alone since it last failed, at `singled_out` of which others went through.
    `may_be_mirrored`: False where the mirror was seen to have no code of its voucher and value. `changed_at`: by hand.
    """

    id: int
    operation: Operation
    voucher_id: UUID | None
    value: str | None
    validity_start_utc: datetime | None
    validity_end_utc: datetime | None
    voucher_code_id: UUID | None
    target_code_id: UUID | None
    attempts: int
    created_at: datetime
    unknown_since_utc: datetime | None
    blocked_alone: int
    singled_out: int
    may_be_mirrored: bool = True
    changed_at: datetime | None = None
    is_anothers: bool = False


@dataclass(frozen=True, slots=True)
class Uncertain:
    """A row whose outcome is unknown, and why.

    `unknown_since_utc`: when the first attempt of which nothing is known began, by the API's clock, and not later.
    `target_code_id`: the code that a delete was sent for. `last_error`: the words of the answer, if there was one.
    `blocked_alone` and `singled_out`: see `Row`.
    """

    id: int
    operation: Operation
    attempt_id: UUID
    attempts: int
    voucher_id: UUID
    target_code_id: UUID | None
    unknown_since_utc: datetime
    uncertain_because: Uncertainty
    last_error: str | None
    blocked_alone: int
    singled_out: int


def send_together(rows: Sequence[Row]) -> list[Row]:
    """Which of these rows go in the next call: the first, and those that may go with it, in their order."""
    if not rows:
        return []
    part = _part(rows[0])
    most = len(rows)
    if part is not None:
        most = TOGETHER[rows[0].attempts] if rows[0].attempts < len(TOGETHER) else 1
    return [row for row in rows if _part(row) == part][:most]


def _part(row: Row) -> tuple[int, int] | None:
    """What all rows of a call have in common: None, unless they were sent a few times without an answer to rely on.

    Such rows are parted in four by two bits of their numbers, by the next two bits each time. What was sent together
    was mostly queued together, so that each part is a quarter of it, however few they are.
    """
    if row.unknown_since_utc is None or row.attempts < WHOLE:
        return None
    return row.attempts, row.id >> 2 * (row.attempts - WHOLE) & 3


@dataclass(frozen=True, slots=True)
class Send:
    """Send it; a delete for the code with this id."""

    voucher_code_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Stands:
    """Nothing to send: the effect stands already, in the code with this id."""

    voucher_code_id: UUID


@dataclass(frozen=True, slots=True)
class Wait:
    """The mirror may not have seen the code yet: decide after the next pull."""


@dataclass(frozen=True, slots=True)
class Fail:
    """It cannot be done, and why."""

    reason: str


Decision = Send | Stands | Wait | Fail


@dataclass(frozen=True, slots=True)
class Follower:
    """A pending row that is to go after another, and how that one stands.

    `is_fulfilled`: the other is done, or was a delete that took back an add. `is_put_off`: the follower is not due
    before the other is done.
    """

    id: int
    after_id: int
    first_status: Status
    is_fulfilled: bool
    is_put_off: bool
    last_error: str | None


@dataclass(frozen=True, slots=True)
class Go:
    """The other row is done: it may be sent."""


@dataclass(frozen=True, slots=True)
class TakeBack:
    """The other row was cancelled, and can never be done: so is this one."""

    reason: str


@dataclass(frozen=True, slots=True)
class PutOff:
    """The other row is not done, and may still be: it waits, and says for what."""

    reason: str


def resolve_follower(row: Follower) -> Go | TakeBack | PutOff | None:
    """What becomes of a row by how the one before it stands; None: it stands as it should."""
    match row.first_status:
        case _ if row.is_fulfilled:
            return Go() if row.is_put_off else None
        case Status.CANCELLED:
            return TakeBack(f"cancelled, since row {row.after_id} was, which was to be done before it")
        case Status.FAILED:
            reason = f"waits for row {row.after_id}, which failed: retry that one, or cancel this one"
        case _:
            reason = f"waits until row {row.after_id} is done"
    is_told = row.is_put_off and row.last_error == reason
    return None if is_told else PutOff(reason)


def resolve_delete(active: Sequence[UUID], deleted: Sequence[UUID], *, mirror_is_fresh: bool) -> Decision:
    """What to do with a delete, by the mirror's codes that it names, each list newest first.

    `mirror_is_fresh`: a pull that began after the row was queued has caught up.
    """
    if len(active) == 1:
        return Send(active[0])
    if active:
        # Which of them is meant is a question of money, so not for us to guess.
        return Fail(f"{len(active)} active codes have this value: name one by voucher_code_id")
    if not mirror_is_fresh:
        # Somebody may have added it a moment ago, even where an older code of this value is deleted.
        return Wait()
    if deleted:
        return Stands(deleted[0])
    return Fail("the API lists no such code for this connection")


def is_suspicious(deletes: int, codes: int, *, share: float, at_least: int) -> bool:
    """Whether so many recent deletes, of a connection that had so many active codes, look like a wrong WHERE."""
    return deletes >= at_least and deletes > share * codes
