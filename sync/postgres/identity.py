"""What a database can tell of itself: the facts by which a restored, copied or promoted one is told apart."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """Where a database lies; None where a managed service denies it.

    `system_identifier` is the server's own name, the same in every copy of its files. `table_oid` is that of
    `sync.incarnation`: a dump that is restored makes the table anew. `timeline` grows where a standby is promoted or a
    recovery ends. `started_at`: the server's last start, by its own clock. `outbox_oid` is that of the outbox, which is
    another where schema `mews` alone was restored.
    """

    system_identifier: str | None
    database_oid: int
    table_oid: int
    timeline: int | None
    started_at: datetime
    outbox_oid: int


async def load_server_facts(tx: AsyncConnection) -> ServerFacts:
    """The facts of the database at the other end of a transaction."""
    # A function that a user may not call is refused even where the statement never comes to it.
    allowed = (await tx.execute(_ALLOWED)).one()
    system_identifier = (await tx.execute(_SYSTEM)).scalar_one() if allowed.system else None
    timeline = (await tx.execute(_TIMELINE)).scalar_one() if allowed.timeline else None
    row = (await tx.execute(_FACTS)).one()
    return ServerFacts(system_identifier, row.database_oid, row.table_oid, timeline, row.started_at, row.outbox_oid)


_ALLOWED = text("""
SELECT has_function_privilege('pg_control_system()', 'EXECUTE') AS system,
       has_function_privilege('pg_walfile_name(pg_lsn)', 'EXECUTE')
         AND has_function_privilege('pg_current_wal_lsn()', 'EXECUTE') AS timeline
""")
_SYSTEM = text("SELECT system_identifier::text FROM pg_control_system()")
# The control file has a new timeline only after its first checkpoint; the name of the file that is written, at once.
_TIMELINE = text("SELECT ('x' || lpad(left(pg_walfile_name(pg_current_wal_lsn()), 8), 16, '0'))::bit(64)::bigint")
_FACTS = text("""
SELECT oid::bigint AS database_oid, 'sync.incarnation'::regclass::oid::bigint AS table_oid,
       pg_postmaster_start_time() AS started_at, 'mews.voucher_code_outbox'::regclass::oid::bigint AS outbox_oid
FROM pg_database WHERE datname = current_database()
""")


async def place_of(tx: AsyncConnection) -> str:
    """The name of the database at the other end of a transaction, and where it is; no secret."""
    info = (await tx.get_raw_connection()).driver_connection.info  # type: ignore[union-attr]  # there is one in a transaction
    return f"{info.dbname} at {info.host}" + ("" if info.host.startswith("/") else f":{info.port}")
