"""What an audit found, voucher by voucher."""

from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

from sync.audit.compare import DRIFT, Difference
from sync.core.api_errors import ApiError
from sync.core.errors import TooMuchMissing, VoucherSyncError


@dataclass(slots=True)
class VoucherReport:
    """What was found in one voucher; `columns` counts in which columns codes differ. `error`: it was not compared."""

    voucher_id: UUID
    counts: Counter[Difference] = field(default_factory=Counter)
    columns: Counter[str] = field(default_factory=Counter)
    repaired: int = 0
    error: ApiError | None = None

    @property
    def drift(self) -> int:
        """How many codes stood wrong."""
        return sum(self.counts[difference] for difference in DRIFT)


@dataclass(slots=True)
class AuditReport:
    """What an audit found.

    `vouchers_done` and `vouchers_left`: listed by this process, and not yet; `left_out`: not compared, since the API
    does not show them at present; `braked`: why it changed nothing.
    """

    left_out: int = 0
    vouchers_done: int = 0
    vouchers_left: int = 0
    codes: int = 0
    vouchers: dict[UUID, VoucherReport] = field(default_factory=dict)
    braked: str | None = None

    def add(self, connection: str, other: "AuditReport") -> None:
        """Take in what was found of another connection."""
        self.left_out += other.left_out
        self.vouchers_done += other.vouchers_done
        self.vouchers_left += other.vouchers_left
        self.codes += other.codes
        self.vouchers |= other.vouchers
        if other.braked:
            self.braked = "; ".join(filter(None, (self.braked, f"connection {connection}: {other.braked}")))

    @property
    def drift(self) -> int:
        """How many codes stood wrong."""
        return sum(voucher.drift for voucher in self.vouchers.values())

    @property
    def repaired(self) -> int:
        """How many of them were mended."""
        return sum(voucher.repaired for voucher in self.vouchers.values())

    @property
    def refused(self) -> int:
        """How many codes something on the mirror's table keeps from standing there as they are."""
        return sum(voucher.counts[Difference.REFUSED] for voucher in self.vouchers.values())

    def totals(self) -> dict[str, int]:
        """Counts of the whole audit, by name."""
        return {
            "vouchers": len(self.vouchers),
            "codes": self.codes,
            "drift": self.drift,
            "repaired": self.repaired,
            "refused": self.refused,
            "errors": len(self.errors),
        }

    @property
    def is_clean(self) -> bool:
        """Whether the mirror is equal to the API now, as far as was to be judged."""
        return not (self.errors or self.braked) and self.drift == self.repaired

    @property
    def error(self) -> VoucherSyncError | None:
        """What the audit as a whole ended with."""
        return TooMuchMissing(self.braked) if self.braked else next(iter(self.errors), None)

    @property
    def errors(self) -> list[ApiError]:
        """Why vouchers could not be compared."""
        return [voucher.error for voucher in self.vouchers.values() if voucher.error]
