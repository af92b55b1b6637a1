"""Whether ours has become slower, by ratios that a busy machine hardly changes: what `make guard` runs, and CI.

    .venv/bin/python benchmarks/guard.py            compares with benchmarks/guard.json
    .venv/bin/python benchmarks/guard.py --accept   writes down what is measured now

Backfills in this process, by the command `once`, take turns with the floor: the same pages, ready in memory, parsed and
copied row by row into the same table. What counts is the client's processor time of one against the other, and what
can be counted exactly: WAL against the floor's, statements and round trips for each page, modules that `once` imports.

Exits 1 if one of them is worse by more than a quarter, and says which.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import click
import psycopg
from click.testing import CliRunner
from database import MIGRATED, Database, database
from worlds import ACCESS_TOKEN, CLIENT_TOKEN, make_world

from sync.cli.commands import voucher_sync

HERE = Path(__file__).parent
BASELINE = HERE / "guard.json"
MOST_LOST = 0.25
CODES, VOUCHERS = 20_000, 20
ROUNDS, FLOORS = 3, 2
COUNT = 1000
NAMES = (
    "Id", "VoucherId", "Value", "ValidityStartUtc", "ValidityEndUtc", "CreatedUtc", "UpdatedUtc", "IsActive",
)  # fmt: skip
COPY = (
    "COPY mews.voucher_codes (id, voucher_id, value, validity_start_utc, validity_end_utc, created_utc, updated_utc, "
    "is_active, connection) FROM STDIN"
)
IMPORTED = """
import sys
from sync.cli import main
sys.argv = ["voucher-sync", "once"]
try:
    main()
except SystemExit:
    print(len(sys.modules))
"""
MEANINGS = {
    "client_cpu": "client processor time, times that of COPY",
    "wal": "WAL, times that of COPY",
    "statements": "statements for each page",
    "trips": "round trips for each page",
    "nothing_new": "statements of a `once` with nothing new",
    "modules": "modules that `once` imports",
}


@click.command()
@click.option("--accept", is_flag=True, help="Write down what is measured now.")
@click.option("--rounds", default=ROUNDS, show_default=True)
def main(accept: bool, rounds: int) -> None:
    """Measure, then compare or write down."""
    with database(fsync="off") as server:
        found = _measure(server, rounds)
    for name, value in found.items():
        click.echo(f"{value:8.3f}  {MEANINGS[name]}")
    if accept:
        BASELINE.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        return
    lost = losses(json.loads(BASELINE.read_text(encoding="utf-8")), found)
    for sentence in lost:
        click.echo(f"slower: {sentence}", err=True)
    sys.exit(1 if lost else 0)


def losses(before: dict[str, float], now: dict[str, float]) -> list[str]:
    """What is worse by more than a quarter: one does three quarters as much for the same as before, or less."""
    return [
        f"{MEANINGS[name]}: {now[name]:.3f}, where {value:.3f} was measured when it was last accepted, and up to "
        f"{value / (1 - MOST_LOST):.3f} is let pass. What costs it is to be mended, or `make guard ARGS=--accept` and "
        "a reason in the commit"
        for name, value in before.items()
        if now[name] > value / (1 - MOST_LOST)
    ]


@dataclass(slots=True)
class Round:
    """Processor seconds of a COPY, a backfill and a look for what is new; their WAL in bytes, and what was counted."""

    floor_s: float
    floor_wal: int
    backfill_s: float
    wal: int
    backfill: dict[str, int]
    nothing_new_s: float
    nothing_new: dict[str, int]

    def of_a_page(self, name: str) -> float:
        """How many there were for each page of the backfill, beside what each `once` begins and ends with."""
        return (self.backfill[name] - self.nothing_new[name]) / self.backfill["pages"]


def _measure(server: Database, rounds: int) -> dict[str, float]:
    bodies = make_bodies()
    with tempfile.TemporaryDirectory(prefix="voucher-sync-bench-") as place, _world(server, Path(place)) as world:
        environment = _environment(server, Path(place), world.address)
        # The first one warms up, and is not counted.
        done = [_round(server, bodies, world, environment) for _ in range(rounds + 1)][1:]
        modules = _modules(environment)
    # The least of each: whoever else works on the machine only ever adds to it.
    client_s = min(one.backfill_s for one in done) - min(one.nothing_new_s for one in done)
    return {
        "client_cpu": client_s / min(one.floor_s for one in done),
        "wal": min(one.wal / one.floor_wal for one in done),
        "statements": min(one.of_a_page("statements") for one in done),
        "trips": min(one.of_a_page("trips") for one in done),
        "nothing_new": min(one.nothing_new["statements"] for one in done),
        "modules": modules,
    }


def _round(server: Database, bodies: list[bytes], world: "_World", environment: dict[str, str]) -> Round:
    floor_s, floor_wal = min(_floor(server, bodies) for _ in range(FLOORS))
    server.make("guard", MIGRATED)
    world.counted()
    before = server.wal_bytes()
    backfill_s = _cpu_s(lambda: _once(environment, written=CODES))
    wal, backfill = server.wal_bytes() - before, world.counted()
    nothing_new_s = _cpu_s(lambda: _once(environment, written=0))
    return Round(floor_s, floor_wal, backfill_s, wal, backfill, nothing_new_s, world.counted())


def make_bodies() -> list[bytes]:
    """The codes of such a world as the API's answers, each of a page."""
    texts = [
        dict(zip(NAMES, (str(code.id), str(code.voucher_id), code.value, *map(_text, (
            code.validity_start_utc, code.validity_end_utc, code.created_utc, code.updated_utc)), code.is_active),
            strict=True))
        for code in make_world(CODES, VOUCHERS).codes.truth.values()
    ]  # fmt: skip
    return [json.dumps({"VoucherCodes": texts[at : at + COUNT]}).encode() for at in range(0, CODES, COUNT)]


def _text(instant: datetime | None) -> str | None:
    return instant and instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _floor(server: Database, bodies: list[bytes]) -> tuple[float, int]:
    """Processor time and WAL of a COPY of the pages into the mirror's table; what its triggers keep is ours to pay."""
    server.make("guard", MIGRATED)
    with psycopg.connect(server.url("guard")) as session:
        session.execute("ALTER TABLE mews.voucher_codes DISABLE TRIGGER USER")
        session.commit()

        def copied() -> None:
            with session.cursor().copy(COPY) as copy:
                for body in bodies:
                    for code in json.loads(body)["VoucherCodes"]:
                        copy.write_row((*map(code.__getitem__, NAMES), "default"))
            session.commit()

        before = server.wal_bytes()
        return _cpu_s(copied), server.wal_bytes() - before


def _cpu_s(work: Any) -> float:
    began_s = time.process_time()
    work()
    return time.process_time() - began_s


def _once(environment: dict[str, str], *, written: int) -> None:
    ended = CliRunner().invoke(voucher_sync, ["once", "--json"], env=environment, catch_exceptions=False)
    if ended.exit_code or json.loads(ended.stdout)["pulled"]["written"] != written:
        raise click.ClickException(f"`once` failed: {ended.output}")


def _modules(environment: dict[str, str]) -> int:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED], env=environment, stdout=PIPE, stderr=subprocess.DEVNULL, check=True
    )
    return int(done.stdout.splitlines()[-1])


def _environment(server: Database, place: Path, address: str) -> dict[str, str]:
    url = server.url("guard").partition("?")[0]
    return {
        "DATABASE_URL": f"{url}?host={place}",
        "MEWS_PLATFORM_ADDRESS": address,
        "MEWS_CLIENT_TOKEN": CLIENT_TOKEN,
        "MEWS_ACCESS_TOKEN": ACCESS_TOKEN,
        "SYNC_RATE_LIMIT_REQUESTS": "1000000000",
        "SYNC_PLATFORM_CALLS_IN_FLIGHT": "1000000",
        "SYNC_PLATFORM_CALLS_PER_S": "1000000",
        "SYNC_STATE_DIR": str(place / "state"),
        "SYNC_LOG_LEVEL": "warning",
    }


class _World:
    """The process that simulates and counts; `address` is the API's."""

    def __init__(self, process: "Popen[str]") -> None:
        self._process = process
        self.address = self._line()

    def counted(self) -> dict[str, int]:
        """What was counted since the last time."""
        assert self._process.stdin is not None  # noqa: S101 - it is piped
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        counts: dict[str, int] = json.loads(self._line())
        return counts

    def _line(self) -> str:
        assert self._process.stdout is not None  # noqa: S101 - it is piped
        return self._process.stdout.readline().strip()


@contextmanager
def _world(server: Database, place: Path) -> Iterator[_World]:
    command = [sys.executable, str(HERE / "guarded_world.py"), str(CODES), str(VOUCHERS), str(place), server.socket]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:
        try:
            yield _World(process)
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
