"""How fresh the mirror is, as who writes by it must know."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class MirrorFreshness:
    """When the last whole discovery, and the last pull that caught up, began, by the database's clock; None: never.

    `visible_after`: how long what was written may stay hidden from a pull, which also reads whole seconds only.
    `checked`: the finding of the database's identity that this pull began after.
    """

    discovered_as_of: datetime | None = None
    caught_up_as_of: datetime | None = None
    visible_after: timedelta = timedelta()
    checked: int | None = None

    @property
    def complete_as_of(self) -> datetime | None:
        """What was written by this instant must stand in the mirror."""
        return self.caught_up_as_of and self.caught_up_as_of - self.visible_after
