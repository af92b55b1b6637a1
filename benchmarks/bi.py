"""The ten questions of docs/bi.md, and the rest of its SELECTs, measured on as many codes as wanted.

    .venv/bin/python benchmarks/bi.py --codes 1000000
    .venv/bin/python benchmarks/bi.py --codes 10000000 --plans

The codes are made by INSERT ... SELECT, past the API: three years of 1,000 vouchers in 20 hotels, a tenth of them
deleted, half with an end of validity, 1 in 1,000 changed in the last day. Beside the time from the question to the last
row stands the processor time of the session without parallel workers, which other work on the machine hardly changes.

Exits 1 if one takes longer than its goal: 200 ms up to a million codes, 1 s beyond, where what counts all codes is told
and not judged.
"""

import os
import re
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import psycopg

from sync.postgres.embedded import embedded_postgres
from sync.postgres.migrations import migrate
from sync.postgres.urls import libpq_url

PAGE = Path(__file__).parents[1] / "docs" / "bi.md"
STATEMENTS: dict[str, str] = dict(
    re.findall(r"^```sql\n-- (\w+)\n(SELECT.*?);\n```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
)
COUNT_ALL = {"valid", "duplicates"}
"""What cannot be answered without a look at every code."""
BEYOND = 1_000_000
GOAL_MS, GOAL_BEYOND_MS = 200, 1000
BATCH = 500_000

ID = "('00000000-0000-0000-000{kind}-' || lpad(to_hex({number}), 12, '0'))::uuid"
HOTEL, SERVICE, VOUCHER = (ID.format(kind=kind, number="{0}") for kind in (3, 2, 1))
DISCOVERED = (
    f"INSERT INTO mews.enterprises (id, name, time_zone, connection) "
    f"SELECT {HOTEL.format('n')}, 'Hotel ' || n, 'Europe/Prague', 'default' FROM generate_series(0, 19) AS n",
    f"INSERT INTO mews.services (id, enterprise_id, name, is_active, connection) "
    f"SELECT {SERVICE.format('n')}, {HOTEL.format('n')}, 'Stay', true, 'default' FROM generate_series(0, 19) AS n",
    f"INSERT INTO mews.vouchers (id, service_id, enterprise_id, name, is_active, connection) "
    f"SELECT {VOUCHER.format('n')}, {SERVICE.format('n % 20')}, {HOTEL.format('n % 20')}, 'Voucher ' || n, true, "
    "'default' FROM generate_series(0, 999) AS n",
)
CODES = f"""
INSERT INTO mews.voucher_codes (id, voucher_id, value, validity_start_utc, validity_end_utc, created_utc, updated_utc,
                                is_active, connection, first_seen_at, mirrored_at)
SELECT gen_random_uuid(), {VOUCHER.format("n % 1000")},
       CASE WHEN n % 1001 = 0 THEN 'TWICE' || n % 97 ELSE upper(substr(md5(n::text), 1, 12)) END,
       CASE WHEN n % 4 = 0 THEN code.at + interval '1 day' END,
       CASE WHEN n % 2 = 0 THEN date_trunc('day', code.at) + n % 900 * interval '1 day' END, code.at,
       CASE WHEN n % 10 = 0 THEN least(code.at + n % 300 * interval '1 day', now() - interval '2 days')
            ELSE code.at END,
       n % 10 <> 0, 'default', seen.at, seen.at
FROM generate_series(%(first)s::bigint, %(last)s) AS n
CROSS JOIN LATERAL (SELECT now() - interval '1095 days' * (1 - n::float8 / %(codes)s) AS at) AS code
CROSS JOIN LATERAL (
  SELECT least(greatest(code.at, now() - interval '200 days'), now() - interval '2 days') AS at) AS seen
"""
CHANGED = """
UPDATE mews.voucher_codes SET is_active = false, updated_utc = now(), mirrored_at = clock_timestamp()
WHERE id IN (SELECT id FROM mews.voucher_codes WHERE is_active ORDER BY id LIMIT %(changed)s)
"""
OUTBOX = f"""
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, status, queued_by, created_at, next_attempt_at,
                                      finished_at, voucher_code_id, last_error, attempts)
SELECT 'add', {VOUCHER.format("n % 1000")}, 'VALUE-' || n, row.status, 'app_' || n % 5, row.at, row.at,
       row.at + n % 60 * interval '0.1 s', gen_random_uuid(),
       CASE row.status WHEN 'failed' THEN 'Code VALUE-' || n || ' exists already, reason ' || n % 3 END, 1
FROM generate_series(1, 100000) AS n CROSS JOIN LATERAL (
  SELECT now() - n * interval '1 minute' AS at, CASE WHEN n % 20 = 0 THEN 'failed' ELSE 'done' END AS status) AS row
"""
MERGED = """
WITH gone AS (DELETE FROM sync.code_counts RETURNING *)
INSERT INTO sync.code_counts
SELECT voucher_id, created_month, sum(issued), sum(active), sum(deleted) FROM gone GROUP BY 1, 2
"""


@click.command()
@click.option("--codes", default=1_000_000, show_default=True)
@click.option("--runs", default=5, show_default=True, help="How often each is asked; the median counts.")
@click.option("--plans", is_flag=True, help="Print how PostgreSQL goes about each.")
@click.option("--directory", type=click.Path(path_type=Path), help="Where the data lies; a temporary one otherwise.")
def main(codes: int, runs: int, plans: bool, directory: Path | None) -> None:
    """Make the codes, then ask."""
    with tempfile.TemporaryDirectory(prefix="voucher-sync-bench-", dir=directory) as place:
        with embedded_postgres(Path(place), options={"fsync": "off", "max_wal_size": "4GB"}) as url:
            migrate(url)
            with psycopg.connect(libpq_url(url), autocommit=True) as session:
                fill(session, codes)
                slow = measure(session, codes, runs, plans=plans)
    sys.exit(1 if slow else 0)


def fill(session: psycopg.Connection[Any], codes: int) -> None:
    """Make hotels, vouchers, codes with a past, and an outbox, vacuumed as autovacuum leaves them."""
    began_s = time.monotonic()
    for statement in DISCOVERED:
        session.execute(statement.encode())
    for first in range(1, codes + 1, BATCH):
        last = min(first + BATCH - 1, codes)
        session.execute(CODES.replace("n % ", "n %% ").encode(), {"first": first, "last": last, "codes": codes})
    session.execute(CHANGED.encode(), {"changed": codes // 1000})
    session.execute(MERGED.encode())  # as a pull does behind itself
    session.execute(b"SET session_replication_role = replica")  # an outbox with a past is not queued, but restored
    session.execute(OUTBOX.encode())
    session.execute(b"RESET session_replication_role")
    session.execute(b"VACUUM (ANALYZE)")
    (size,) = session.execute(b"SELECT pg_total_relation_size('mews.voucher_codes')").fetchone() or (0,)
    click.echo(
        f"{codes:,} codes in {time.monotonic() - began_s:.0f} s, {size / codes:.0f} bytes each with their indexes"
    )


def measure(session: psycopg.Connection[Any], codes: int, runs: int, *, plans: bool) -> list[str]:
    """Ask each; which took longer than they should."""
    goal_ms, slow = GOAL_MS if codes <= BEYOND else GOAL_BEYOND_MS, []
    now = datetime.now(UTC)
    parameters = {"since": now - timedelta(days=1), "day": now - timedelta(days=400)}
    click.echo(f"{'question':<12} {'median ms':>9} {'min':>8} {'max':>8} {'CPU ms':>8} {'rows':>8}")
    for name, text in STATEMENTS.items():
        statement = re.sub(r"(?<!:):(\w+)", r"%(\1)s", text.replace("%", "%%")).encode()
        took_ms, _, found = ask(session, statement, parameters, runs)
        session.execute(b"SET max_parallel_workers_per_gather = 0")
        _, cpu_ms, _ = ask(session, statement, parameters, runs)
        session.execute(b"RESET max_parallel_workers_per_gather")
        median = statistics.median(took_ms)
        is_judged = codes <= BEYOND or name not in COUNT_ALL
        slow += [name] if is_judged and median > goal_ms else []
        told = "" if is_judged else "  counts all"
        figures = f"{median:9.1f} {min(took_ms):8.1f} {max(took_ms):8.1f} {cpu_ms:8.0f} {found:8,}"
        click.echo(f"{name:<12} {figures}{told}")
        if plans:
            for (line,) in session.execute(b"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) " + statement, parameters):
                click.echo(f"    {line}")
    click.echo(f"goal: {goal_ms} ms; over it: {', '.join(slow) or 'none'}")
    return slow


def ask(
    session: psycopg.Connection[Any], statement: bytes, parameters: dict[str, datetime], runs: int
) -> tuple[list[float], float, int]:
    """How long each run took, what processor time of the server's one took on average, and how many rows came."""
    took_ms, found = (
        [],
        len(session.execute(statement, parameters).fetchall()),
    )  # later runs find in memory what it read
    before_ms = server_cpu_ms(session)
    for _ in range(runs):
        began_s = time.perf_counter()
        session.execute(statement, parameters).fetchall()
        took_ms.append((time.perf_counter() - began_s) * 1000)
    return took_ms, (server_cpu_ms(session) - before_ms) / runs, found


def server_cpu_ms(session: psycopg.Connection[Any]) -> float:
    """Processor time of the session's server process so far, in steps of 10 ms."""
    fields = Path(f"/proc/{session.info.backend_pid}/stat").read_text(encoding="ascii").split()
    return (int(fields[13]) + int(fields[14])) * 1000 / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
