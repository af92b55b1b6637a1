"""What an audit makes of a code as the mirror and the API have it: a pure decision, and the brake on losses."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sync.mews.records import VoucherCode


class Finding(StrEnum):
    """How the mirror and the API stand to each other in one code."""

    EQUAL = "equal"
    DIFFERING = "differing"
    ONLY_HERE = "only_here"
    ONLY_THERE = "only_there"
    RECENT = "recent"
    """One side changed while the audit ran, or so lately that the next pull brings it: not judged, and not touched."""
    REFUSED = "refused"
    """Something on the table keeps the row from being what the API says: nothing that mending could mend."""


DRIFT = frozenset({Finding.DIFFERING, Finding.ONLY_HERE, Finding.ONLY_THERE})


@dataclass(frozen=True, slots=True)
class Held:
    """A row of the mirror. `mirrored_at`: when it was last written, by the database's clock."""

    code: VoucherCode
    mirrored_at: datetime
    is_missing: bool


@dataclass(frozen=True, slots=True)
class Judge:
    """Compares codes of one voucher, whose audit began at `began_at` by the database's clock.

    `settled_before`: changes before this instant of the API must have been mirrored by then; None: none need have.
    """

    began_at: datetime
    settled_before: datetime | None

    def find(self, here: Held | None, there: VoucherCode | None) -> Finding:
        """How one code stands; at least one side has it."""
        if here is not None and here.mirrored_at >= self.began_at:
            return Finding.RECENT
        if there is None:
            # That the API no longer has it was found by an audit before.
            return Finding.EQUAL if here is None or here.is_missing else Finding.ONLY_HERE
        if here is not None and here.code == there and not here.is_missing:
            return Finding.EQUAL
        if not self._is_settled(there):
            return Finding.RECENT
        return Finding.ONLY_THERE if here is None else Finding.DIFFERING

    def _is_settled(self, there: VoucherCode) -> bool:
        # A change without an instant is in no window: no pull would ever bring it.
        if there.updated_utc is None:
            return True
        return self.settled_before is not None and there.updated_utc < self.settled_before


def columns_that_differ(here: VoucherCode, there: VoucherCode) -> list[str]:
    """Names of the columns in which two readings of a code differ."""
    return [name for name in VoucherCode._fields if getattr(here, name) != getattr(there, name)]


def is_suspicious_loss(missing: int, held: int, *, share: float) -> bool:
    """Whether so many codes that the API no longer lists, of so many in the mirror, look like a fault on its side.

    Also if it lists none at all any more, whatever `share` is.
    """
    return missing > share * held or 0 < held <= missing
