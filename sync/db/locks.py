"""Who holds locks on our tables: what a migration that waits has to tell."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

MAX_TOLD = 3

# Of sessions of others, the server tells everybody the user and the application; state and time only who may see them.
_HOLDERS = text("""
SELECT activity.pid, activity.usename AS "user", activity.application_name AS application, activity.state,
       activity.xact_start AS since, string_agg(DISTINCT lock.relation::regclass::text, ', ') AS tables
FROM pg_locks AS lock
JOIN pg_class AS class ON class.oid = lock.relation
JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace AND namespace.nspname IN ('mews', 'sync')
LEFT JOIN pg_stat_activity AS activity ON activity.pid = lock.pid
WHERE lock.granted AND class.relkind IN ('r', 'p', 'v', 'm') AND lock.pid IS DISTINCT FROM pg_backend_pid()
  AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
GROUP BY activity.pid, activity.usename, activity.application_name, activity.state, activity.xact_start
ORDER BY activity.xact_start NULLS LAST
LIMIT :limit
""")


@dataclass(frozen=True, slots=True)
class Holder:
    """A session that holds locks on `tables`; without a pid: a prepared transaction, which belongs to no session."""

    pid: int | None
    user: str | None
    application: str | None
    state: str | None
    since: datetime | None
    tables: str

    def __str__(self) -> str:
        if self.pid is None:
            return f"a prepared transaction, on {self.tables} (see pg_prepared_xacts, then ROLLBACK PREPARED)"
        state = f", {self.state}" if self.state else ""
        since = f" since {self.since:%Y-%m-%d %H:%M:%S} UTC" if self.since else ""
        return (
            f"pid {self.pid} (user {self.user}, application {self.application or 'unnamed'}{state}{since}), on "
            f"{self.tables}"
        )


def holders(connection: Connection) -> list[Holder]:
    """Sessions that hold locks on our tables, the longest first."""
    return [Holder(**row) for row in connection.execute(_HOLDERS, {"limit": MAX_TOLD}).mappings()]
