"""Many producers that queue at once, measured: what the trigger's NOTIFY adds to their commits. A real PostgreSQL.

    .venv/bin/python benchmarks/producers.py --producers 200 --rounds 5

Each producer is a session of pgbench that inserts one row after another, each a transaction that waits for the disk.
Rounds with and without NOTIFY take turns, since a machine is faster in one minute than in the next; what is compared
is each pair. One session listens as the daemon does. Exits 1 if with NOTIFY the median pair's p99 is over 1.3 times.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from uuid import UUID

import click
import psycopg

from sync.postgres.embedded import embedded_postgres, psql_path
from sync.postgres.listen import CHANNEL
from sync.postgres.migrations import migrate

MAX_RATIO = 1.3
VOUCHER = UUID(int=1)
KNOWN = "INSERT INTO mews.vouchers (id, service_id, enterprise_id, name, type, is_active, connection) VALUES "
SCRIPT = f"""
\\set number random(1, 1000000000000)
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value)
VALUES ('add', '{VOUCHER}', 'C-:client_id-:number');
"""


@click.command()
@click.option("--producers", default=200, show_default=True)
@click.option("--rounds", default=5, show_default=True, help="Pairs of rounds.")
@click.option("--seconds", default=8, show_default=True, help="How long a round is.")
def main(producers: int, rounds: int, seconds: int) -> None:
    """Insert from many sessions, with NOTIFY and without."""
    with tempfile.TemporaryDirectory(prefix="voucher-sync-bench-", ignore_cleanup_errors=True) as directory:
        with embedded_postgres(Path(directory), options={"max_connections": str(producers + 20)}) as url:
            migrate(url)
            with psycopg.connect(url, autocommit=True) as listener:
                listener.execute(f"{KNOWN} (%s, %s, %s, 'Summer', 'Public', true, 'default')", [VOUCHER] * 3)
                listener.execute(f"LISTEN {CHANNEL}")
                ratios = [compare(url, listener, producers, seconds) for _ in range(rounds)]
    ratio = statistics.median(ratios)
    click.echo(f"p99 with NOTIFY over p99 without: {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    sys.exit(0 if ratio <= MAX_RATIO else 1)


def compare(url: str, listener: psycopg.Connection, producers: int, seconds: int) -> float:
    """A pair of rounds; how many times longer the p99 is with NOTIFY."""
    p99s_ms = {}
    for is_notifying in (False, True):
        listener.execute("TRUNCATE mews.voucher_code_outbox CASCADE")
        took_ms = run(url, producers, seconds, is_notifying=is_notifying)
        heard = len(list(listener.notifies(timeout=0.1)))
        p99s_ms[is_notifying] = took_ms[int(len(took_ms) * 0.99)]
        click.echo(
            f"{'with' if is_notifying else 'without':>7} NOTIFY: {len(took_ms) / seconds:6.0f} commits/s, p50 "
            f"{statistics.median(took_ms):6.1f} ms, p99 {p99s_ms[is_notifying]:6.1f} ms, {heard:,} words heard"
        )
    return p99s_ms[True] / p99s_ms[False]


def run(url: str, producers: int, seconds: int, *, is_notifying: bool) -> list[float]:
    """Milliseconds of each commit, in order of length."""
    with tempfile.TemporaryDirectory(prefix="voucher-sync-bench-") as name:
        directory = Path(name)
        script = directory / "script"
        script.write_text(SCRIPT, encoding="ascii")
        options = "" if is_notifying else "-c voucher_sync.notify=off"
        subprocess.run(
            [
                str(psql_path().with_name("pgbench")), "--no-vacuum", "--client", str(producers), "--jobs", "2",
                "--time", str(seconds), "--file", str(script), "--log", "--log-prefix", str(directory / "log"), url,
            ],
            env={**os.environ, "PGOPTIONS": options}, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        lines = (line for log in directory.glob("log.*") for line in log.read_text(encoding="ascii").splitlines())
        return sorted(int(line.split()[2]) / 1000 for line in lines)


if __name__ == "__main__":
    main()
