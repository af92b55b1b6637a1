"""Commits that are lost: all rows of a database as they were at an instant, put back later.

What a standby that was behind, or a server without its last WAL, shows: the same database with fewer commits, on a
server that was started since.
"""

import psycopg
from psycopg import sql

TABLES = """
SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
WHERE schemaname IN ('mews', 'sync') AND tablename <> 'alembic_version' ORDER BY 1
"""
STARTED_SINCE = "UPDATE sync.incarnation SET started_at = started_at - interval '1 second'"

Snapshot = dict[str, bytes]
"""By table, all of its rows as COPY tells them."""


async def take(database_url: str) -> Snapshot:
    """What is committed now."""
    async with await psycopg.AsyncConnection.connect(database_url) as tx:
        await tx.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        names = [name for (name,) in await (await tx.execute(TABLES)).fetchall()]
        return {name: await _copy_out(tx, name) for name in names}


async def put_back(database_url: str, snapshot: Snapshot) -> None:
    """Lose what was committed since."""
    async with await psycopg.AsyncConnection.connect(database_url) as tx:
        await tx.execute("SET LOCAL session_replication_role = replica")  # no trigger of ours sees it
        await tx.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(map(sql.SQL, snapshot))))
        for name, rows in snapshot.items():
            async with tx.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(sql.SQL(name))) as copy:
                await copy.write(rows)
        await tx.execute(STARTED_SINCE)


async def _copy_out(tx: "psycopg.AsyncConnection[tuple[str]]", name: str) -> bytes:
    async with tx.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(sql.SQL(name))) as copy:
        return b"".join([bytes(part) async for part in copy])
