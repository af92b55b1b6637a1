"""What is measured side by side: worlds of a size, and what each contender does in one, step by step."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

from contenders import CONTENDERS, COPY, OURS, READ, Contender
from database import Database
from measures import Surroundings, measure, verdict
from worlds import change, make_world

from sync.demo.simulator import UNLIMITED, RateLimit, Simulator, World

CHANGED, QUEUED = 1000, 10_000
SCRIPT = next(one for one in CONTENDERS if one.name == "script")
# No round queues what the one before has made: the API would refuse all of it.
QUEUE = (
    "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) "
    "SELECT 'add', id, concat('NEW-', extract(epoch FROM now())::bigint, '-', n) "
    "FROM generate_series(1, {count}) AS n JOIN (SELECT id, row_number() OVER (ORDER BY id) - 1 AS number, "
    "count(*) OVER () AS of FROM mews.vouchers) AS voucher ON number = n % of"
)
BACKFILL, NOTHING_NEW = "backfill", "nothing new"


@dataclass(frozen=True, slots=True)
class Workload:
    """A world and who works in it: `rounds` times, in turns. `follows`: whether more is done after the backfill."""

    name: str
    title: str
    codes: int
    vouchers: int
    rounds: int
    hotels: int = 1
    latency_s: float = 0.0
    limit: RateLimit = UNLIMITED
    contenders: tuple[Contender, ...] = CONTENDERS
    follows: bool = False
    queued: int = QUEUED


FULL = (
    Workload("200k", "200,000 codes, 200 vouchers, unthrottled", 200_000, 200, 5, follows=True),
    Workload("1m", "1,000,000 codes, 200 vouchers, unthrottled", 1_000_000, 200, 3, follows=True),
    Workload("budget", "400,000 codes at 200 ms a call, 200 calls in 30 s", 400_000, 200, 1, latency_s=0.2,
         limit=RateLimit()),
    Workload("hotels", "200 hotels of 5,000 codes each, one portfolio token, unthrottled", 1_000_000, 2_000, 3,
         hotels=200, contenders=(OURS, SCRIPT, READ, COPY)),
)  # fmt: skip
QUICK = (
    Workload("20k", "20,000 codes, 50 vouchers, unthrottled", 20_000, 50, 2, follows=True, queued=1000),
    Workload("budget", "20,000 codes at 200 ms a call, 200 calls in 30 s", 20_000, 50, 1, latency_s=0.2,
         limit=RateLimit(), contenders=(OURS, SCRIPT)),
    Workload("hotels", "10 hotels of 1,000 codes each, one portfolio token, unthrottled", 10_000, 100, 1, hotels=10,
         contenders=(OURS, SCRIPT)),
)  # fmt: skip


@asynccontextmanager
async def world_of(work: Workload) -> AsyncIterator[tuple[World, Simulator, str]]:
    """The work's hotels, served."""
    world = make_world(work.codes, work.vouchers, work.hotels)
    simulator = Simulator(world, latency_s=work.latency_s, rate_limit=work.limit, max_records=100_000)
    async with simulator.serve() as address:
        yield world, simulator, address


async def session(
    work: Workload, contender: Contender, database: Database, served: tuple[World, Simulator, str]
) -> AsyncIterator[tuple[str, dict[str, float | str]]]:
    """One contender from an empty database on: each step's name, what it took, and whether the mirror was right."""
    world, simulator, address = served
    with tempfile.TemporaryDirectory(prefix="voucher-sync-bench-", ignore_cleanup_errors=True) as directory:
        name = f"bench-{contender.name}"
        around = Surroundings(database, name, simulator, address, work.limit, Path(directory))
        database.make(name, contender.template)
        rows = Path(directory) / "rows"
        if contender is COPY:
            write_rows(world, rows)
        command = tuple(word.replace("{rows}", str(rows)) for word in contender.command)

        async def step() -> dict[str, float | str]:
            figures = await measure(around, command)
            return {**figures, "mirror": verdict(around, contender, world)}

        try:
            yield BACKFILL, await step()
            if work.follows and contender.follows:
                yield NOTHING_NEW, await step()
                change(world, CHANGED)
                # The API tells changes by whole seconds: in the midst of theirs nobody can know that he has them all.
                await asyncio.sleep(1.0 - time.time() % 1.0)
                yield f"{CHANGED:,} changes", await step()
            if work.follows and contender is OURS:
                with database.session(name) as session:
                    session.execute(QUEUE.format(count=work.queued).encode())
                yield f"{work.queued:,} outbox rows", await step()
                audit = await measure(around, (*OURS.command[:3], "audit", "--json"))
                yield "audit", {**audit, "mirror": verdict(around, contender, world)}
        finally:
            database.drop(name)


def write_rows(world: World, path: Path) -> None:
    """The codes as COPY takes them as text."""
    with path.open("w", encoding="utf-8") as file:
        for code in world.codes.truth.values():
            instants = (code.validity_start_utc, code.validity_end_utc, code.created_utc, code.updated_utc)
            texts = (r"\N" if at is None else at.astimezone(UTC).isoformat() for at in instants)
            active = "t" if code.is_active else "f"
            file.write("\t".join((str(code.id), str(code.voucher_id), code.value or r"\N", *texts, active, "default")))
            file.write("\n")
