"""What commands print with `--json` where that is no report of the work itself; docs/reference/json.md has all."""

from dataclasses import dataclass

from sync.fleet.listing import ListedConnection
from sync.outbox.bulk.forecast import Forecast
from sync.outbox.enqueue import Queued
from sync.outbox.rules import Operation


@dataclass(frozen=True, slots=True)
class QueuedRow:
    """A row of the outbox. `is_new`: unless the same was queued before, under the same key. `last_error`: what it waits
    for, or why it was cancelled at once."""

    id: int
    operation: str
    status: str
    last_error: str | None
    is_new: bool


def queued_row(queued: Queued, operation: Operation) -> QueuedRow:
    """A row that was just queued."""
    return QueuedRow(queued.id, operation, queued.status, queued.last_error, queued.is_new)


@dataclass(frozen=True, slots=True)
class QueuedRows:
    """What was queued, in its order."""

    rows: list[QueuedRow]


@dataclass(frozen=True, slots=True)
class MovedRows:
    """How many rows were moved, to which status, and why others were not, by their numbers; 100 of those at most."""

    moved: int
    status: str
    unmoved: dict[int, str]


@dataclass(frozen=True, slots=True)
class BadCode:
    """A line of a file that cannot be queued, and why."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of the codes of a file. `good`: codes that are or would be queued. `repeated`: lines that were queued
    before, under the same keys. `bad`: the first 100 of `bad_count`. `forecast`: with `--forecast`."""

    queued: int
    good: int
    repeated: int
    bad_count: int
    bad: list[BadCode]
    forecast: Forecast | None


@dataclass(frozen=True, slots=True)
class Generated:
    """How many codes were made and queued, and in which file they stand. `forecast`: with `--forecast`."""

    queued: int
    output: str | None
    forecast: Forecast | None


@dataclass(frozen=True, slots=True)
class Migrated:
    """From which revision to which; `before`: null for an empty database. `unready`: roles that cannot be used yet."""

    before: str | None
    after: str | None
    unready: list[str]


@dataclass(frozen=True, slots=True)
class CheckedLine:
    """What was looked at, what was found, and what to do where that is wrong."""

    subject: str
    ok: bool
    detail: str
    to_do: str | None


@dataclass(frozen=True, slots=True)
class Checked:
    """Whether nothing is wrong, and each line."""

    ok: bool
    lines: list[CheckedLine]


@dataclass(frozen=True, slots=True)
class ListedConnections:
    """The connections that are not removed, by name."""

    connections: list[ListedConnection]


@dataclass(frozen=True, slots=True)
class ChangedConnection:
    """A connection, and whether it was changed: one that is paused already is not paused anew."""

    name: str
    changed: bool


@dataclass(frozen=True, slots=True)
class AddedConnections:
    """How many connections of a file were added, or would be; `bad`: the first 100 of `bad_count` lines that cannot be
    used, for which none was."""

    added: int
    good: int
    bad_count: int
    bad: list[BadCode]


@dataclass(frozen=True, slots=True)
class RotatedConnection:
    """A connection that has another access token, and how many hotels that sees."""

    name: str
    hotels: int


@dataclass(frozen=True, slots=True)
class RemovedConnection:
    """A connection that was removed; `deleted`: how many codes went with it, null without `--purge`."""

    name: str
    deleted: int | None


@dataclass(frozen=True, slots=True)
class Reencrypted:
    """How many connections have their tokens encrypted with the first key."""

    connections: int
