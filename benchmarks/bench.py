"""Ours beside other ways to the same mirror and the floors beneath them, and how ours grows: what `make bench` runs.

    .venv/bin/python benchmarks/bench.py            all of it, for an idle machine: about an hour and a half
    .venv/bin/python benchmarks/bench.py --quick    small, in two minutes: that it works, not how fast it is

One server, one simulator for each work; who is measured takes turns, from an empty database each time. What one has
taken is written down when it is through: a run that was ended goes on where it was. Of a whole run the figures lie in
benchmarks/, the tables in benchmarks/RESULTS.md and the charts in docs/images/; of a quick one all lies in .bench/.

Exits 1 if one failed, or our own mirror was wrong.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click
import growth
from contenders import CONTENDERS, HERE, PEERS_BIN
from database import Database, database
from measures import CommandFailed
from results import ROOT, Results, machine, table
from works import BACKFILL, FULL, QUICK, Workload, session, world_of

PEER_LIBRARIES = (
    "dlt", "pyarrow", "adbc-driver-postgresql", "singer-sdk", "meltanolabs-target-postgres", "httpx", "sqlalchemy",
    "psycopg",
)  # fmt: skip
NAMES = {one.name: one.title for one in CONTENDERS}


@dataclass(frozen=True, slots=True)
class Output:
    """Where figures, tables and charts go."""

    figures: Path
    page: Path
    charts: Path


WHOLE = Output(HERE / "results.json", HERE / "RESULTS.md", ROOT / "docs" / "images")
SMALL = Output(ROOT / ".bench" / "results.json", ROOT / ".bench" / "RESULTS.md", ROOT / ".bench")


@click.command()
@click.option("--quick", is_flag=True, help="Small sizes.")
@click.option("--only", multiple=True, help="Only works, or contenders, of this name, or `growth`.")
@click.option("--fresh", is_flag=True, help="Begin anew.")
@click.option("--keep", is_flag=True, help="Keep what was measured of other commits.")
def main(quick: bool, only: tuple[str, ...], fresh: bool, keep: bool) -> None:
    """Measure what is not measured yet, then write tables and charts."""
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell's background job ignores the second; the server has to end
        signal.signal(number, signal.default_int_handler)
    works, output = (QUICK, SMALL) if quick else (FULL, WHOLE)
    output.figures.parent.mkdir(exist_ok=True)
    if fresh:
        output.figures.unlink(missing_ok=True)
    results = Results.load(output.figures, keep=keep)
    sizes = growth.sizes(int(os.environ.get("GROWTH_MAX") or (growth.QUICK_MAX if quick else growth.USUAL_MAX)))
    with database() as server:
        results.head = machine(server.version, PEER_LIBRARIES, PEERS_BIN / "python")
        results.head["load before"] = f"{os.getloadavg()[0]:.1f}"
        asyncio.run(_measure(results, works, sizes, server, only))
    _write(results, works, output)
    sys.exit(1 if _faults(results) else 0)


async def _measure(
    results: Results, works: tuple[Workload, ...], sizes: list[int], server: Database, only: tuple[str, ...]
) -> None:
    names = {work.name for work in works} & set(only)
    contenders = set(NAMES) & set(only)
    for work in works:
        if (not only or work.name in names or contenders) and (not names or work.name in names):
            await _work(results, work, server, contenders or set(NAMES))
    if not only or "growth" in only:
        await growth.measure_growth(results, sizes, server)


async def _work(results: Results, work: Workload, server: Database, contenders: set[str]) -> None:
    wanted = [
        (number, contender)
        for number in range(work.rounds)
        for contender in work.contenders
        if contender.name in contenders and not results.has(work=work.name, contender=contender.name, round=number)
    ]
    if not wanted:
        return
    click.echo(f"{work.title}:", err=True)
    async with world_of(work) as served:
        for number, contender in wanted:
            which = {"work": work.name, "contender": contender.name, "round": number}
            results.forget(**which)
            began_s = time.monotonic()
            try:
                found: list[dict[str, object]] = []
                async for step, figures in session(work, contender, server, served):
                    found.append({**which, "step": step, **figures})
                    told = f"{figures['wall_s']:.2f} s, {figures['cpu_s']:.2f} + {figures['db_cpu_s']:.2f} s CPU"
                    click.echo(f"  {number + 1}. {contender.name:<10} {step:<18} {told} {figures['mirror']}", err=True)
                results.add(*found)  # all or none: a run that is ended in between does it again
            except (CommandFailed, TimeoutError) as error:
                results.add({**which, "step": BACKFILL, "error": str(error) or "timed out"})
                click.echo(f"  {number + 1}. {contender.name}: failed: {error}", err=True)
            click.echo(f"     in all {time.monotonic() - began_s:.1f} s", err=True)


def _write(results: Results, works: tuple[Workload, ...], output: Output) -> None:
    results.save()
    titles = {work.name: work.title for work in works}
    codes = {work.name: work.codes for work in works}
    head = "".join(f"- {name}: {told}\n" for name, told in results.head.items())
    page = (
        "# What `make bench` measured\n\n[How to read it](../docs/how-fast.md). Medians, with the least and greatest "
        f"of several rounds.\n\n{head}{table(results, titles, codes, NAMES)}{growth.table(results)}"
    )
    output.page.write_text(page, encoding="utf-8")
    command = (str(PEERS_BIN / "python"), str(HERE / "chart.py"), str(output.figures), str(output.charts))
    subprocess.run(command, check=True)
    click.echo(page)


def _faults(results: Results) -> list[str]:
    """What failed, and where our mirror was wrong."""
    return [
        f"{one['work']} {one['step']} {one['contender']}"
        for one in results.records
        if "error" in one or (one["contender"] == "ours" and one.get("mirror") not in {"equal", "", None})
    ]


if __name__ == "__main__":
    main()
