"""Who holds locks on our tables: what a migration, or a statement, that has waited in vain has to tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Interval, bindparam, text

MAX_TOLD = 3

# Of sessions of others, the server tells everybody the user and the application; state and time only who may see them.
_HOLDERS = """
SELECT activity.pid, activity.usename AS "user", activity.application_name AS application, activity.state,
       activity.xact_start AS since, string_agg(DISTINCT lock.relation::regclass::text, ', ') AS tables
FROM pg_locks AS lock
JOIN pg_class AS class ON class.oid = lock.relation
JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace AND namespace.nspname IN ('mews', 'sync')
LEFT JOIN pg_stat_activity AS activity ON activity.pid = lock.pid
WHERE class.relkind IN ('r', 'p', 'v', 'm') AND lock.pid IS DISTINCT FROM pg_backend_pid()
  AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND {condition}
GROUP BY activity.pid, activity.usename, activity.application_name, activity.state, activity.xact_start
ORDER BY bool_or(lock.mode = 'AccessExclusiveLock') DESC, activity.xact_start NULLS LAST
LIMIT :limit
"""
_ALL_HOLDERS = text(_HOLDERS.format(condition="lock.granted"))
# Who only reads stands in the way of no statement of ours, but for one thing: behind him may wait what needs the table
# for itself, as an ALTER TABLE, and behind that we do. Who waits as we did, or began later, has kept nothing from us.
_BLOCKERS = text(
    _HOLDERS.format(
        condition="""(lock.mode = 'AccessExclusiveLock' OR lock.granted AND (
    activity.wait_event_type IS DISTINCT FROM 'Lock' AND lock.mode <> 'AccessShareLock'
    OR EXISTS (SELECT FROM pg_locks AS other WHERE other.relation = lock.relation AND other.database = lock.database
               AND other.mode = 'AccessExclusiveLock' AND NOT other.granted)))
  AND (activity.xact_start IS NULL OR activity.xact_start < now() - :waited)"""
    )
).bindparams(bindparam("waited", type_=Interval))


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
    """Sessions that hold locks of any kind on our tables, the strongest and the longest first."""
    return [Holder(**row) for row in connection.execute(_ALL_HOLDERS, {"limit": MAX_TOLD}).mappings()]


def blockers(connection: Connection, waited: timedelta) -> list[Holder]:
    """Sessions that may have kept a statement of ours waiting for so long, just before."""
    parameters = {"limit": MAX_TOLD, "waited": waited}
    return [Holder(**row) for row in connection.execute(_BLOCKERS, parameters).mappings()]


def describe(found: Sequence[Holder]) -> str:
    """Who they are, of whom there is one at least, and how the first is ended."""
    who = "; ".join(map(str, found))
    pid = next((one.pid for one in found if one.pid), None)
    end_it = f", by SELECT pg_terminate_backend({pid}) if need be" if pid else ""
    return f"Held by {who}. Let that end{end_it}"
