"""A reader that stays in its transaction beside a busy outbox, measured: what it adds to the way of the next changes.

    .venv/bin/python benchmarks/long_reader.py --rows 100000 --inserts 600

Of two databases on one server, one has a REPEATABLE READ transaction that is open all the time, as BI tools leave them:
there nothing that is updated can be cleaned away. Both push the same rows and are vacuumed, as autovacuum does after a
minute; then single rows are inserted into both in turn, so that the machine is equally busy for both.

Latency is from the commit to the arrival of the request; blocks are all that was looked at of the outbox meanwhile,
which no other work on the machine changes. Pulls are as seldom as where nobody sets it, since each of them reads all
again that was pushed within the overlap. Exits 1 if beside the reader the p99 is over 1.5 times, or a change is wrong.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import psycopg
from push import ACCESS_TOKEN, CLIENT_TOKEN, INSERT, daemon, is_right, quiet, until_done

from sync.demo.simulator import UNLIMITED, Operation, Simulator, World
from sync.postgres.embedded import embedded_postgres
from sync.postgres.migrations import migrate

MAX_RATIO = 1.5
PAUSE_S = 0.02
PULL_INTERVAL_S = 60
BLOCKS = """
SELECT sum(heap_blks_hit + heap_blks_read + coalesce(idx_blks_hit, 0) + coalesce(idx_blks_read, 0))
FROM pg_statio_user_tables
WHERE relid IN ('mews.voucher_code_outbox'::regclass, 'mews.voucher_code_outbox_attempts'::regclass,
                'sync.attempts'::regclass)
"""
SIZES = """
SELECT pg_relation_size('mews.voucher_code_outbox') / 1048576.0,
       pg_indexes_size('mews.voucher_code_outbox') / 1048576.0,
       (SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = 'mews.voucher_code_outbox'::regclass)
"""


class Side:
    """One of the databases, with a hotel and a daemon of its own."""

    def __init__(self, name: str, url: str) -> None:
        self.name, self.url = name, url
        self.world = World(lambda: datetime.now(UTC), client_token=CLIENT_TOKEN)
        hotel = self.world.add_enterprise("Hotel")
        self.world.add_token(ACCESS_TOKEN, name="token", enterprise_ids=[hotel.id])
        self.voucher = self.world.add_voucher(self.world.add_service(hotel.id, "Stay").id, "Summer")
        self.simulator = Simulator(self.world, rate_limit=UNLIMITED)
        self.simulator.on_request = self._on_request
        self.delays_ms: list[float] = []
        self._arrived: dict[str, asyncio.Future[float]] = {}
        self.writer: psycopg.AsyncConnection[Any]

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["Side"]:
        """With its daemon, which knows the voucher."""
        async with self.simulator.serve() as address, self._daemon(address):
            await quiet(self.url, self.voucher.id)
            async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as self.writer:
                yield self

    def _daemon(self, address: str) -> AbstractAsyncContextManager[Process]:
        return daemon(self.url, address, limit=1_000_000, pull_interval_s=PULL_INTERVAL_S)

    async def push(self, rows: int) -> float:
        """Queue rows in bulk; how many seconds it took until all were done."""
        began_s = time.perf_counter()
        series = f"{INSERT} SELECT 'add', %s, 'C' || n FROM generate_series(1, %s) AS n"
        await self.writer.execute(series, [self.voucher.id, rows])
        await until_done(self.url)
        return time.perf_counter() - began_s

    async def insert(self, value: str) -> None:
        """Queue one row, and note how long its request takes to arrive."""
        arrived = self._arrived[value] = asyncio.get_running_loop().create_future()
        await self.writer.execute(f"{INSERT} VALUES ('add', %s, %s)", [self.voucher.id, value])
        committed_s = time.perf_counter()
        self.delays_ms.append((await arrived - committed_s) * 1000)

    async def sizes(self) -> str:
        """How large the outbox is."""
        await self.writer.execute("SELECT pg_stat_force_next_flush()")
        table_mb, indexes_mb, dead = await (await self.writer.execute(SIZES)).fetchone() or (0, 0, 0)
        return f"table {table_mb:.0f} MB, indexes {indexes_mb:.0f} MB, {dead:,} dead rows"

    async def blocks(self) -> int:
        """How many blocks were looked at so far."""
        row = await (await self.writer.execute(BLOCKS)).fetchone()
        return int(row[0]) if row else 0

    async def _on_request(self, operation: Operation, body: Any) -> None:
        if operation is Operation.ADD_CODES:
            for one in body["VoucherCodeParameters"]:
                if arrived := self._arrived.pop(one["Value"], None):
                    arrived.set_result(time.perf_counter())


@click.command()
@click.option("--rows", default=100_000, show_default=True, help="Pushed before.")
@click.option("--inserts", default=600, show_default=True, help="Single rows, into each database.")
def main(rows: int, inserts: int) -> None:
    """Push beside a transaction that stays open, and without one."""
    with tempfile.TemporaryDirectory(prefix="voucher-sync-bench-", ignore_cleanup_errors=True) as directory:
        with embedded_postgres(Path(directory)) as url:
            with psycopg.connect(url, autocommit=True) as admin:
                admin.execute("CREATE DATABASE beside")
            beside_url = psycopg.conninfo.make_conninfo(url, dbname="beside")
            migrate(url)
            migrate(beside_url)
            is_good = asyncio.run(measure(Side("alone", url), Side("beside a reader", beside_url), rows, inserts))
    sys.exit(0 if is_good else 1)


async def measure(alone: Side, beside: Side, rows: int, inserts: int) -> bool:
    """Print what both took; whether all is well."""
    async with AsyncExitStack() as stack:
        sides = [await stack.enter_async_context(side.opened()) for side in (alone, beside)]
        reader = await stack.enter_async_context(await psycopg.AsyncConnection.connect(beside.url))
        await reader.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await reader.execute("SELECT count(*) FROM mews.voucher_codes")
        for side in sides:
            click.echo(f"{side.name}: {rows:,} rows pushed in {await side.push(rows):.1f} s; {await side.sizes()}")
            await side.writer.execute("VACUUM ANALYZE mews.voucher_code_outbox")
        blocks = {side.name: await side.blocks() for side in sides}
        for number in range(inserts):
            for side in sides:
                await side.insert(f"ONE-{number}")
                await asyncio.sleep(PAUSE_S)
        for side in sides:
            await until_done(side.url)
            took_ms = sorted(side.delays_ms)
            click.echo(
                f"{side.name}: p50 {statistics.median(took_ms):.1f} ms, p99 {p99(took_ms):.1f} ms, "
                f"max {took_ms[-1]:.1f} ms; "
                f"{(await side.blocks() - blocks[side.name]) / inserts:,.0f} blocks for each; "
                f"{await side.sizes()}"
            )
        are_right = [await is_right(side.world, side.url, side.simulator) for side in sides]
    ratio = p99(sorted(beside.delays_ms)) / p99(sorted(alone.delays_ms))
    click.echo(f"p99 beside a reader over p99 alone: {ratio:.2f}")
    return all(are_right) and ratio <= MAX_RATIO


def p99(took_ms: list[float]) -> float:
    """Of values in order."""
    return took_ms[int(len(took_ms) * 0.99) - 1]


if __name__ == "__main__":
    main()
