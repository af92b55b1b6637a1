"""How a database differs from what is known of it, by what it says of itself and by the witness."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sync.postgres.identity import ServerFacts

IN_FLIGHT = 64
"""More positions than a place commits before its witness is written, as long as the disk of that is not far slower than
the database's: each waits for the one before. One that lags more vouches for nothing, and `adopt` is asked for."""


class Gap(StrEnum):
    """How a database differs from what is known of it."""

    COPY = "copy"
    """It may lie elsewhere than where it was worked with, and another one may be at work with the same tokens."""
    BEHIND = "behind"
    """It is the same database, and has lost commits."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the database says of itself; `id` is None until somebody has worked with it."""

    id: UUID | None
    position: int
    system_identifier: str | None
    database_oid: int | None
    table_oid: int | None
    timeline: int | None
    started_at: datetime | None
    gap: Gap | None
    gap_at: datetime | None
    gap_through: int | None
    moved_by: UUID | None = None
    """The place whose process has moved the position on last, to `moved_to`: see `sync.connection.witness`."""
    moved_to: int | None = None
    """Less than `position` where a release that does not say who it is has moved it on since."""
    outbox_oid: int | None = None
    emptied_at: datetime | None = None
    """When the outbox was last emptied by TRUNCATE, or was empty before anybody had worked with the database: what was
    queued before comes from elsewhere, as from a backup."""


def find_gap(known: Known, facts: ServerFacts, seen: int | None, *, has_followed: bool = False) -> Gap | None:
    """How a database differs from what is known of it; `seen`: the position that the witness has, if there is one.

    `has_followed`: this process has found it before, and followed it until its server was another; or it did the last
    of it, as `did_last_of_it` says.
    """
    if known.gap is Gap.COPY or known.id is None:
        return known.gap
    if lies_elsewhere(known, facts):
        return Gap.COPY
    is_same_server = known.started_at == facts.started_at
    if seen is not None and known.position < seen:
        # A server that runs loses nothing: a copy under the same name must have been at work.
        return Gap.COPY if is_same_server else Gap.BEHIND
    # Files that were copied or put back tell the same of themselves, but only a server that was started since has them.
    # A witness from before they were kept would not miss what was done after that.
    is_followed = seen is not None and (has_followed or seen == known.position)
    return known.gap if is_same_server or is_followed else Gap.COPY


def lies_elsewhere(known: Known, facts: ServerFacts) -> bool:
    """Whether a database, its outbox or what it says of itself is not where it was when this was last noted."""
    pairs = (
        (known.system_identifier, facts.system_identifier),
        (known.database_oid, facts.database_oid),
        (known.table_oid, facts.table_oid),
        (known.outbox_oid, facts.outbox_oid),
    )
    return any(None not in pair and pair[0] != pair[1] for pair in pairs)


def went_back_alone(known: Known, facts: ServerFacts) -> bool:
    """Whether schema `mews` was restored, and schema `sync` is as it was: it tells of what is there no more."""
    return known.table_oid == facts.table_oid and known.outbox_oid not in (None, facts.outbox_oid)


def is_promoted(before: Known, facts: ServerFacts) -> bool:
    """Whether a server may be a standby that took over, and lost what somebody did last; `before`: as it was known."""
    if None not in (before.timeline, facts.timeline):
        return before.timeline != facts.timeline
    return before.started_at != facts.started_at


def did_last_of_it(known: Known, place: UUID, seen: int | None) -> bool:
    """Whether what was done last was done from a place, and its witness lags no more than a power failure leaves it."""
    is_own = known.moved_by == place and known.moved_to == known.position
    return is_own and seen is not None and known.position - seen <= IN_FLIGHT


def as_on_same_server(known: Known, facts: ServerFacts) -> Known:
    """What would be known if the server had not been started anew."""
    return replace(known, started_at=facts.started_at)
