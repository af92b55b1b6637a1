"""Whether the mirror holds what the simulator does, row by row."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.core.plurals import plural
from sync.demo.simulator import Code
from sync.mirror.tables import voucher_codes
from sync.postgres.engine import transaction

COLUMNS = (
    "id",
    "voucher_id",
    "value",
    "validity_start_utc",
    "validity_end_utc",
    "created_utc",
    "updated_utc",
    "is_active",
)
"""The columns that come from the API; the others are the mirror's own."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many rows are the same on both sides, differ in a column, stand only here, or only there."""

    equal: int
    differing: int
    only_here: int
    only_there: int

    @property
    def is_equal(self) -> bool:
        """Whether there is no difference at all."""
        return not (self.differing or self.only_here or self.only_there)

    def on_the_way(self) -> str:
        """The same while people go on changing codes: what differs has just changed, and comes with the next pulls."""
        changed = self.differing + self.only_here + self.only_there
        return f"{plural(self.equal, 'code')} as the API has them{f', {changed:,} on their way' if changed else ''}"

    def __str__(self) -> str:
        if self.is_equal:
            return f"{plural(self.equal, 'row')}, all equal"
        return (
            f"{plural(self.equal, 'row')} equal, {self.differing:,} differing, {self.only_here:,} only in the mirror, "
            f"{self.only_there:,} only in the simulator"
        )


async def compare(engine: AsyncEngine, truth: Mapping[UUID, Code]) -> Comparison:
    """Every row of `mews.voucher_codes` against `truth`, the codes by id, in every column that comes from the API."""
    async with transaction(engine) as tx:
        rows = (await tx.execute(select(*(voucher_codes.c[name] for name in COLUMNS)))).all()
    here = {row.id: tuple(row) for row in rows}
    there = {code.id: tuple(getattr(code, name) for name in COLUMNS) for code in truth.values()}
    equal = sum(1 for id_, row in there.items() if here.get(id_) == row)
    shared = len(here.keys() & there.keys())
    return Comparison(equal, shared - equal, len(here) - shared, len(there) - shared)
