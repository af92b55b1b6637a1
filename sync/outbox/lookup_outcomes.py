"""What becomes of uncertain rows by a look at the API: pure decisions, which others write down."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from sync.outbox.outcomes import SET_ASIDE, Blocks, Completion
from sync.outbox.rules import TOGETHER, Status, Uncertain, Uncertainty, Verdict

MAX_BLOCKS = 5
"""A proxy may block any call now and then; so many times alone, with growing pauses between them, are no chance."""
ALONE_AGAIN = timedelta(minutes=1)
"""How soon a change is sent again that goes alone by now and whose outcome is unknown all the same."""
BLOCKED_ALONE = (
    "something between here and the API, as a proxy or firewall, lets all but this change through; have this one let "
    "through, then retry it"
)

LookedUp = tuple[Sequence[Uncertain], Completion]
"""Rows, and what becomes of them."""


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
