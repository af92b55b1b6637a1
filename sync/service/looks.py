"""What all connections of a process ask the database together."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from sync.mirror.quiet import MirrorVersions, mirror_look
from sync.outbox.unfinished import Unfinished, unfinished_look
from sync.postgres.shared_look import SharedLook


@dataclass(frozen=True, slots=True)
class Looks:
    """Whose outbox has anything unfinished, and whose mirror has changed."""

    unfinished: SharedLook[Unfinished]
    versions: SharedLook[MirrorVersions]


def make_looks(engine: AsyncEngine) -> Looks:
    """Those of one process."""
    return Looks(unfinished_look(engine), mirror_look(engine))
