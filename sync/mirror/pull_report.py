"""What a pull did."""

from dataclasses import dataclass, field
from uuid import UUID

from sync.core.errors import VoucherSyncError
from sync.mirror.watermarks import CaughtUp


@dataclass(slots=True)
class PullReport:
    """What one pull did: windows read to their end of those planned, codes read, and rows written.

    `errors` holds what kept windows from their end; they stay open for the next pull. `left_over`: the turn was over
    before everything was read. `caught_up` is None unless nothing was left to read.
    """

    windows_planned: int = 0
    windows_done: int = 0
    pages: int = 0
    codes: int = 0
    written: int = 0
    rejected: int = 0
    refused: list[UUID] = field(default_factory=list)
    errors: list[VoucherSyncError] = field(default_factory=list)
    stopped: bool = False
    left_over: bool = False
    caught_up: CaughtUp | None = None
