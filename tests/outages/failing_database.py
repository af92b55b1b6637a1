"""A database that answers and takes nothing: no room on its disk, no memory, no session left, or it is a standby."""

from datetime import timedelta

from psycopg import AsyncConnection, sql

STANDBY = "25006"
OLDER = (
    "UPDATE mews.voucher_code_outbox SET next_attempt_at = next_attempt_at - %s",
    "UPDATE sync.attempts SET until = until - %s",
    "UPDATE sync.connections SET state_since = state_since - %s",
    "UPDATE sync.caught_up SET noted_at = noted_at - %s",
)
REFUSE = """
CREATE TABLE public.trouble (code text);
CREATE FUNCTION sync.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE trouble text := (SELECT code FROM public.trouble);
BEGIN
  IF trouble IS NOT NULL THEN RAISE EXCEPTION 'could not extend file' USING ERRCODE = trouble; END IF;
  RETURN NULL;
END $$
"""
END_OTHER_SESSIONS = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


class FailingDatabase:
    """The database of a test, by a session of its own that is never refused anything."""

    def __init__(self, admin: AsyncConnection) -> None:
        self._admin = admin

    async def refuse(self, code: str, tables: list[str]) -> None:
        """From now on PostgreSQL refuses to write to these tables, with this code; a standby also ends sessions."""
        await self._admin.execute(REFUSE)
        for table in tables:
            name = sql.Identifier(*table.split("."))
            statement = "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON {} EXECUTE FUNCTION sync.refuse()"
            await self._admin.execute(sql.SQL(statement).format(name))
        await self._admin.execute("INSERT INTO public.trouble VALUES (%s)", [code])
        if code == STANDBY:
            await self._admin.execute(END_OTHER_SESSIONS)

    async def give_way(self) -> None:
        """Nothing is refused any more."""
        await self._admin.execute("DELETE FROM public.trouble")

    async def pass_time(self, by: timedelta) -> None:
        """Makes what was noted, and waits for its time, so much older."""
        async with self._admin.transaction():
            await self._admin.execute("SET LOCAL session_replication_role = replica")  # past all triggers
            for statement in OLDER:
                await self._admin.execute(statement.encode(), [by] * statement.count("%s"))
