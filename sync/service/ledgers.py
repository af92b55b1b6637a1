"""By what the calls of each token are written down, of however many connections of a process it is."""

from uuid import UUID
from weakref import WeakValueDictionary

from sqlalchemy.ext.asyncio import AsyncEngine

from sync.connection.budget import BudgetLedger
from sync.connection.process_names import another_name
from sync.connection.tenure import Trust
from sync.mews.rate_limiter import CAP_WAIT_S
from sync.settings import Settings


class Ledgers:
    """Those of one process.

    It has one row for a token. A second connection of the same one, as the environment's may be, or one that was paused
    and goes on, would write over it, and both together make twice the calls: it has a row of its own, as if it were
    another process, whose name begins as this one's.
    """

    def __init__(self) -> None:
        self._in_its_name: WeakValueDictionary[bytes, BudgetLedger] = WeakValueDictionary()

    def of(
        self, token: bytes, settings: Settings, engine: AsyncEngine, process: UUID, trust: Trust | None
    ) -> BudgetLedger:
        """A ledger for another connection of this token; `trust` as `BudgetLedger` says."""
        if token in self._in_its_name:
            return make_ledger(token, settings, engine, another_name(process))
        ledger = self._in_its_name[token] = make_ledger(token, settings, engine, process, trust)
        return ledger


def make_ledger(
    token: bytes, settings: Settings, engine: AsyncEngine, process: UUID | None = None, trust: Trust | None = None
) -> BudgetLedger:
    """A ledger in the name of `process`, or of nobody."""
    return BudgetLedger(
        engine,
        token,
        good_for_s=settings.sync_lease_s,
        # A place of the budget is held for a read until it is answered, and for a write while its claim is good.
        longest_call_s=CAP_WAIT_S + max(settings.sync_request_timeout_s, settings.sync_lease_s),
        window_s=settings.sync_rate_limit_window_s,
        process=process,
        trust=trust,
    )
