"""What the database refused lately, so that a pull does not try it again every minute."""

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sync.mews.pages import Page
from sync.mews.records import Record, Rejected, VoucherCode

R = TypeVar("R", bound=Record)

TRY_AGAIN_S = 3600.0
"""Each try leaves dead rows in the table, and a line in the database's log."""
MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class _Refusal:
    record: Any
    rejected: Rejected
    until_s: float


class Refusals:
    """Of one connection. A record that has changed since, or whose time is over, is tried again; so is all by an audit.

    It holds for one process: the first pull of each tries everything.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[str, Hashable], _Refusal] = {}

    def note(self, record: Any, rejected: Rejected) -> None:
        """Remember a record that the database refuses."""
        if len(self._known) < MAX_REMEMBERED:
            key = (rejected.kind, record.id)
            self._known[key] = _Refusal(record, rejected, time.monotonic() + TRY_AGAIN_S)

    def forget(self) -> None:
        """Have everything tried again."""
        self._known.clear()

    def leave_out(self, kind: str, page: Page[R]) -> Page[R]:
        """The page with what would be refused again among its rejected records."""
        if not self._known:
            return page
        records, rejected = list[R](), list[Rejected]()
        for record in page.records:
            key = (kind, record.id)
            known = self._known.get(key)
            if known is None or known.record != record or known.until_s < time.monotonic():
                self._known.pop(key, None)
                records.append(record)
            else:
                rejected.append(known.rejected)
        return replace(page, records=records, rejected=[*page.rejected, *rejected]) if rejected else page

    def codes(self) -> Sequence[VoucherCode]:
        """The codes that the API has, and the mirror cannot show."""
        return [known.record for known in self._known.values() if isinstance(known.record, VoucherCode)]
