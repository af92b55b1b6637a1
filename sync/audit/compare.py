"""What an audit makes of a code as the mirror and the API have it: a pure decision, and the guard against losses."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sync.mews.records import VoucherCode, VoucherCodes


class Difference(StrEnum):
    """How the mirror and the API stand to each other in one code."""

    EQUAL = "equal"
    DIFFERING = "differing"
    ONLY_MIRRORED = "only_here"
    ONLY_LISTED = "only_there"
    RECENT = "recent"
    """One side changed while the audit ran, or so lately that the next pull brings it: not judged, and not touched."""
    REFUSED = "refused"
    """Something on the table keeps the row from being what the API says: nothing that mending could mend."""


DRIFT = frozenset({Difference.DIFFERING, Difference.ONLY_MIRRORED, Difference.ONLY_LISTED})


@dataclass(frozen=True, slots=True)
class MirroredCode:
    """A row of the mirror. `mirrored_at`: when it was last written, by the database's clock."""

    code: VoucherCode
    mirrored_at: datetime
    is_missing: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Compares codes of one voucher, whose audit began at `began_at` by the database's clock.

    `stable_before`: changes before this instant of the API must have been mirrored by then; None: none need have.
    """

    began_at: datetime
    stable_before: datetime | None

    def compare(self, mirrored: MirroredCode | None, listed: VoucherCode | None) -> Difference:
        """How one code stands; at least one side has it."""
        if mirrored is not None and mirrored.mirrored_at >= self.began_at:
            return Difference.RECENT
        if listed is None:
            # That the API no longer has it was found by an audit before.
            return Difference.EQUAL if mirrored is None or mirrored.is_missing else Difference.ONLY_MIRRORED
        if mirrored is not None and mirrored.code == listed and not mirrored.is_missing:
            return Difference.EQUAL
        if not self._is_stable(listed):
            return Difference.RECENT
        return Difference.ONLY_LISTED if mirrored is None else Difference.DIFFERING

    def _is_stable(self, listed: VoucherCode) -> bool:
        # A change without an instant is in no window: no pull would ever bring it.
        if listed.updated_utc is None:
            return True
        return self.stable_before is not None and listed.updated_utc < self.stable_before


def columns_that_differ(mirrored: VoucherCode, listed: VoucherCode) -> list[str]:
    """Names of the columns in which two readings of a code differ."""
    return [name for name in VoucherCode._fields if getattr(mirrored, name) != getattr(listed, name)]


def is_suspicious_loss(missing: int, mirrored: int, *, share: float) -> bool:
    """Whether so many codes that the API no longer lists, of so many in the mirror, look like a fault on its side.

    Also if it lists none at all any more, whatever `share` is.
    """
    return missing > share * mirrored or 0 < mirrored <= missing


def asked_for(
    codes: Sequence[VoucherCode], voucher_ids: Mapping[UUID, object]
) -> tuple[Sequence[VoucherCode], Counter[UUID]]:
    """The codes of a page whose vouchers were asked for, each once, and how many there are of which voucher."""
    if isinstance(codes, VoucherCodes) and codes.ids.is_distinct():
        vouchers = codes.voucher_ids.counts()
        if vouchers.keys() <= voucher_ids.keys():
            return codes, vouchers
    listed = list({code.id: code for code in codes if code.voucher_id in voucher_ids}.values())
    return listed, Counter(code.voucher_id for code in listed)
