"""What happened: every request, and every rule of the contract that a client broke."""

import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec

from sync.demo.simulator.entities import Operation
from sync.demo.simulator.faults import Fault
from sync.demo.simulator.validation import Call


@dataclass(slots=True)
class RequestRecord:
    """One request and what became of it. `body` holds no tokens; `token` is the token's name.

    `status` stays None until an answer is given, and for good if there never is one.
    """

    number: int
    path: str
    arrived_s: float
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    operation: Operation | None = None
    token: str | None = None
    body: dict[str, Any] | None = field(default=None, repr=False)
    cursor_in: UUID | None = None
    cursor_out: UUID | None = None
    items: int | None = None
    fault: Fault | None = None
    status: int | None = None


class Journal:
    """The records, the violations, and the memory of where listings ended."""

    def __init__(self, *, max_records: int | None, short_page_ends: bool) -> None:
        self.records: deque[RequestRecord] = deque(maxlen=max_records)
        self.violations: list[str] = []
        self._short_page_ends = short_page_ends
        self._arrivals = 0
        self._ends: set[tuple[int, UUID]] = set()

    def arrived(self, path: str, now_s: float) -> RequestRecord:
        """A request came in."""
        self._arrivals += 1
        record = RequestRecord(self._arrivals, path, now_s)
        self.records.append(record)
        return record

    def broke(self, record: RequestRecord, sentence: str) -> None:
        """The request broke a rule."""
        self.violations.append(f"request {record.number} ({record.operation or record.path}): {sentence}")

    def understood(self, record: RequestRecord, call: Call) -> None:
        """The request's body was read."""
        record.operation, record.body, record.cursor_in = call.operation, call.body, call.cursor
        record.token = call.token.name if call.token is not None else None
        for sentence in call.violations:
            self.broke(record, sentence)
        if call.cursor is not None and (_query(record), call.cursor) in self._ends:
            self.broke(record, "the listing had already ended before this cursor was sent")

    def delivered(self, record: RequestRecord) -> None:
        """The client got the answer as the API meant it; from now on it can know where the listing ends."""
        if record.status != 200 or record.body is None or "Limitation" not in record.body:
            return
        last = record.cursor_out or record.cursor_in
        if last is None:
            return
        is_end = not record.items or (self._short_page_ends and record.items < record.body["Limitation"]["Count"])
        # An id that ended the listing once may stand in its middle later, when older records have moved.
        (self._ends.add if is_end else self._ends.discard)((_query(record), last))


def _query(record: RequestRecord) -> int:
    """Tells one listing from another: the same token, operation and filters, whatever the page."""
    filters = {name: value for name, value in (record.body or {}).items() if name != "Limitation"}
    return hash((record.token, record.operation, msgspec.json.encode(filters)))
