"""How what ours does all day grows with the mirror: it is to cost the same at ten thousand codes and at ten million."""

import asyncio
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import click
import psutil
from contenders import OURS
from database import MIGRATED, Database
from measures import CommandFailed, Surroundings, measure, verdict
from results import Results
from works import CHANGED, NOTHING_NEW, QUEUE
from worlds import change, make_world

from sync.demo.simulator import UNLIMITED, Operation, Simulator, World

WORK = "growth"
SMALLEST, QUICK_MAX, USUAL_MAX = 10_000, 30_000, 1_000_000
VOUCHERS, ROUNDS = 200, 5
PAGES = 100
"""Pages of an audit that are looked at."""
CHANGES, ONE_ROW, AUDIT_PAGE = f"{CHANGED:,} changes", "one outbox row", "a page of an audit"
STEPS = (NOTHING_NEW, CHANGES, ONE_ROW, AUDIT_PAGE)


def sizes(most: int) -> list[int]:
    """Ten thousand codes, and ten times as many each time, up to `most`."""
    found = [SMALLEST]
    while found[-1] * 10 <= most:
        found.append(found[-1] * 10)
    return found if found[-1] == most else [*found, most]


async def measure_growth(results: Results, wanted: list[int], database: Database) -> None:
    """A mirror of each size, and what is done to it."""
    for size in wanted:
        if results.has(work=WORK, size=size, step=AUDIT_PAGE):
            continue
        results.forget(work=WORK, size=size)
        click.echo(f"growth, {size:,} codes:", err=True)
        which = {"work": WORK, "contender": "ours", "size": size}
        try:
            await _measure_size(results, which, size, database)
        except (CommandFailed, TimeoutError) as error:
            results.add({**which, "step": "backfill", "error": str(error) or "timed out"})
            click.echo(f"  failed: {error}", err=True)


async def _measure_size(results: Results, which: dict[str, Any], size: int, database: Database) -> None:
    world = make_world(size, VOUCHERS)
    simulator = Simulator(world, rate_limit=UNLIMITED, max_records=100_000)
    name = "bench-growth"
    database.make(name, MIGRATED)
    with tempfile.TemporaryDirectory(prefix="voucher-sync-bench-", ignore_cleanup_errors=True) as directory:
        async with simulator.serve() as address:
            around = Surroundings(database, name, simulator, address, UNLIMITED, Path(directory))
            results.add({**which, "step": "backfill", **await measure(around, OURS.command)})
            with database.session(name) as session:
                session.execute(b"VACUUM (ANALYZE)")
            for step in STEPS[:3]:
                for number in range(ROUNDS):
                    _prepare(step, world, around)
                    figures = await measure(around, OURS.command)
                    results.add({**which, "step": step, "round": number, **figures})
                _tell(step, results, size)
            mirror = verdict(around, OURS, world)
            results.add({**which, "step": AUDIT_PAGE, "mirror": mirror, **await _audit_page(around)})
            _tell(AUDIT_PAGE, results, size)
    database.drop(name)


def _prepare(step: str, world: World, around: Surroundings) -> None:
    if step == CHANGES:
        change(world, CHANGED)
    elif step == ONE_ROW:
        with around.database.session(around.name) as session:
            session.execute(f"{QUEUE.format(count=1)} LIMIT 1".encode())


@dataclass(slots=True)
class _Watch:
    """What client and server had used of the processor at each page that was asked for."""

    around: Surroundings
    process: Process | None = None
    samples: list[tuple[float, float]] = field(default_factory=list)

    async def on_request(self, operation: Operation, _body: Mapping[str, Any]) -> None:
        """Looks at each page; behind the last one that is wanted the audit may end."""
        if operation is not Operation.GET_CODES or self.process is None or len(self.samples) > PAGES:
            return
        try:
            times = psutil.Process(self.process.pid).cpu_times()
        except psutil.NoSuchProcess:
            return
        self.samples.append((times.user + times.system, self.around.database.cpu_s()))
        if len(self.samples) > PAGES:
            self.process.terminate()


async def _audit_page(around: Surroundings) -> dict[str, float]:
    """What a page of an audit costs, by the mean of the first ones."""
    watch = _Watch(around)
    around.simulator.on_request = watch.on_request
    command = (sys.executable, "-m", "sync", "audit", "--json")
    watch.process = await asyncio.create_subprocess_exec(
        *command, env=around.environment(), cwd=around.directory, stdout=DEVNULL, stderr=DEVNULL
    )
    await watch.process.wait()
    around.simulator.on_request = None
    if len(watch.samples) < 2:
        raise CommandFailed("the audit has read nothing")
    pages = len(watch.samples) - 1
    client, server = (watch.samples[-1][part] - watch.samples[0][part] for part in (0, 1))
    return {"cpu_s": client / pages, "db_cpu_s": server / pages, "pages": pages}


def _found(results: Results, size: int, step: str) -> list[dict[str, Any]]:
    return [one for one in results.records if one["work"] == WORK and one.get("size") == size and one["step"] == step]


def _tell(step: str, results: Results, size: int) -> None:
    found = _found(results, size, step)
    figures = " + ".join(f"{median(one[name] for one in found) * 1000:.0f}" for name in ("cpu_s", "db_cpu_s"))
    click.echo(f"  {step:<20} {figures} ms CPU", err=True)


def table(results: Results) -> str:
    """Markdown: a row for each size and step, empty if there is nothing.

    Medians, but of the log the least: autovacuum writes to it when it likes, and is not what is measured.
    """
    found = sorted({one["size"] for one in results.records if one["work"] == WORK and "error" not in one})
    if not found:
        return ""
    lines = ["", "### Growth", "", "| step | codes | seconds | client CPU ms | database CPU ms | peak MB | WAL kB |"]
    lines.append("| --- |" + " ---: |" * 6)
    cells = {(step, size): _found(results, size, step) for step in ("backfill", *STEPS) for size in found}
    lines += [
        " | ".join([f"| {step}", f"{size:,}", *_cells(of), ""]).rstrip() for (step, size), of in cells.items() if of
    ]
    return "\n".join(lines) + "\n"


def _cells(found: list[dict[str, Any]]) -> list[str]:
    columns: tuple[tuple[str, str, int, Callable[[Iterable[float]], float]], ...] = (
        ("wall_s", "{:.2f}", 1, median),
        ("cpu_s", "{:,.0f}", 1000, median),
        ("db_cpu_s", "{:,.0f}", 1000, median),
        ("rss_mb", "{:.0f}", 1, median),
        ("wal_mb", "{:,.1f}", 1024, min),
    )
    return [
        form.format(of([one[name] for one in found]) * factor) if name in found[0] else ""
        for name, form, factor, of in columns
    ]
