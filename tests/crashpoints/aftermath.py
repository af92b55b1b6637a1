"""Who comes after a process that died, and what is left wrong then."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from sync.mirror.read_back import read_deleted
from sync.service import app
from sync.service.adoption import Rest, adopt
from tests.crashpoints.scenes import Scene
from tests.support.mirror import Mirror
from tests.support.outbox import A_WHILE, SETTINGS, Outbox

ROUNDS = 6
"""So often the database is adopted, and the outbox looked up and pushed, at most; two of each are enough here."""
UNFINISHED = "SELECT FROM mews.voucher_code_outbox WHERE status NOT IN ('done', 'failed', 'cancelled')"
LEFT_BEHIND = """
SELECT (SELECT count(*) FROM sync.attempts) AS attempts,
       (SELECT count(*) FROM mews.voucher_codes WHERE delete_noted_at IS NOT NULL) AS noted_deletes,
       (SELECT count(*) FROM mews.voucher_code_outbox AS row
        LEFT JOIN mews.voucher_codes AS code ON code.id = row.voucher_code_id
        WHERE row.note = :value AND row.status = 'done' AND code.id IS NULL) AS done_without_code
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong in the end: codes that are doubled or lost, and rows that differ. `story` has all that is known."""

    doubled: int
    lost: int
    different: int
    story: str

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.doubled or self.lost or self.different)


async def come_after(mirror: Mirror, rest: Rest | None = None) -> None:
    """Another process works on until every change has ended, with waits that are over at once.

    Where the database has lost commits, it is adopted first, as an operator does who is told so. `rest`: what becomes
    then of what the API does not show as done; None: it is released.
    """
    async with mirror.connected():
        connection = mirror.connection

        async def pause() -> None:
            mirror.clock.advance(A_WHILE)

        outbox, jobs = Outbox(mirror), app.make_jobs(connection, mirror.settings())
        for _ in range(ROUNDS):
            if (await adopt(connection, jobs, rest or Rest.RELEASE, pause)).adopted:
                break
            # What is claimed is not known yet: as told, it is adopted again once that claim is over.
            await outbox.outlive_claims()
            await outbox.reconcile()
        watch, outbox.pusher = outbox.pusher.watch, outbox.make_pusher(replace(SETTINGS, delete_guards=[]))
        outbox.pusher.watch = watch
        for _ in range(ROUNDS):
            await outbox.refresh()
            await outbox.outlive_claims()
            await outbox.reconcile()
            mirror.clock.advance(A_WHILE)
            await outbox.be_due()
            await outbox.reconcile()
            await outbox.pusher.push()
            if not await mirror.rows(UNFINISHED):
                break
        mirror.clock.advance(A_WHILE)
        await outbox.refresh()
        await read_deleted(connection)


async def judge(mirror: Mirror, scene: Scene, value: str) -> Verdict:
    """What is wrong with the codes and rows of a trial, and with the mirror as a whole."""
    codes = [code for code in mirror.world.codes.truth.values() if (code.value or "").startswith(value)]
    made = Counter((code.value or "").removeprefix(value) for code in codes)
    active = Counter((code.value or "").removeprefix(value) for code in codes if code.is_active)
    rows = await mirror.rows("SELECT * FROM mews.voucher_code_outbox WHERE note = :value ORDER BY id", value=value)
    stopped = sum(row["status"] != change.ends for row, change in zip(rows, scene.changes, strict=True))
    comparison = await mirror.compare()
    (left,) = await mirror.rows(LEFT_BEHIND, value=value)
    unlike = comparison.differing + comparison.only_here + comparison.only_there + sum(left.values())
    doubled = (made - scene.made()) + (active - scene.active())
    lost = (scene.made() - made) + (scene.active() - active)
    story = [f"mirror: {comparison}; left behind: {left}", *map(_told, rows), *map(str, codes)]
    return Verdict(doubled.total(), lost.total() + stopped, unlike, "\n".join(f"  {line}" for line in story))


def _told(row: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in row.items() if value is not None)
