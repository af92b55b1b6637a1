"""What `check` looks at in a database: its release, whose the schemas are, and how many sessions it has left."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from sync.postgres.link import describe_link
from sync.postgres.requirements import version_of


@dataclass(frozen=True, slots=True)
class Facts:
    """`owns`: whether all that is in our schemas belongs to this user, or to a role of his; None: nothing is there.

    `free`: sessions that `limit` lets be opened still; `ours` are open already, in this database by this user.
    `is_firing`: whether triggers and foreign keys are heeded in this user's sessions. `filtered`: those of our tables
    of which policies may hide rows from this user, and refuse others. `readers`: who was given the whole of a table
    that holds tokens, or records as the API sent them. `collation`: by which release of the operating system's sorting
    rules the indexes were made, and by which it sorts now, where these differ.
    """

    version: str
    release: int
    encoding: str
    link: str
    user: str
    may_create: bool
    owns: bool | None
    free: int
    limit: str
    ours: int
    is_firing: bool
    filtered: list[str]
    readers: list[str]
    collation: tuple[str, str] | None


# The session that asks is gone afterwards, so it is not counted. Of what kind a session of somebody else is, the server
# tells only who may know; those of no user are its own. Superusers are bound by the server's limit alone.
_FACTS = text("""
WITH session AS (
  SELECT datname, usename, application_name FROM pg_stat_activity
  WHERE usename IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend' AND pid <> pg_backend_pid()
), limits AS (
  SELECT current_setting('max_connections')::int - CASE WHEN role.rolsuper THEN 0 ELSE
           current_setting('superuser_reserved_connections')::int
           + coalesce(current_setting('reserved_connections', true)::int, 0) END AS of_server,
         CASE WHEN role.rolconnlimit >= 0 AND NOT role.rolsuper THEN role.rolconnlimit END AS of_role,
         CASE WHEN database.datconnlimit >= 0 AND NOT role.rolsuper THEN database.datconnlimit END AS of_database
  FROM pg_roles AS role, pg_database AS database
  WHERE role.rolname = session_user AND database.datname = current_database()
)
SELECT current_user AS user, has_database_privilege(current_database()::text, 'CREATE') AS may_create,
       (SELECT bool_and(pg_has_role(class.relowner, 'USAGE')) FROM pg_class AS class
        JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
        WHERE namespace.nspname IN ('mews', 'sync') AND class.relkind IN ('r', 'v')) AS owns,
       current_setting('session_replication_role') <> 'replica' AS is_firing,
       (SELECT coalesce(pg_catalog.array_agg(class.oid::regclass::text ORDER BY class.oid::regclass::text), '{}')
        FROM pg_class AS class JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
        WHERE namespace.nspname IN ('mews', 'sync') AND class.relkind = 'r'
          AND row_security_active(class.oid)) AS filtered,
       (SELECT coalesce(pg_catalog.array_agg(DISTINCT reader.name), '{}')
        FROM pg_class AS class JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
        CROSS JOIN LATERAL aclexplode(class.relacl) AS given
        CROSS JOIN LATERAL (
          SELECT CASE given.grantee WHEN 0::oid THEN 'public' ELSE given.grantee::regrole::text END) AS reader (name)
        WHERE namespace.nspname = 'sync' AND class.relname IN ('connections', 'rejected_records')
          AND given.privilege_type = 'SELECT' AND given.grantee <> class.relowner
          AND (given.grantee = 0::oid OR has_schema_privilege(given.grantee, namespace.oid, 'USAGE'))) AS readers,
       limits.*, (SELECT count(*) FROM session) AS all_sessions,
       (SELECT count(*) FROM session WHERE usename = session_user) AS of_user,
       (SELECT count(*) FROM session WHERE datname = current_database()) AS of_this_database,
       (SELECT count(*) FROM session WHERE datname = current_database() AND usename = session_user
        AND application_name = current_setting('application_name')) AS ours
FROM limits
""")


# The server remembers it since release 15.
_COLLATION = text("""
SELECT datcollversion AS made_by, pg_database_collation_actual_version(oid) AS now
FROM pg_database WHERE datname = current_database()
""")
COLLATION_IS_KNOWN_SINCE = 15


def load_facts(connection: Connection) -> Facts:
    """Everything in one query, and one more where the release tells of collations."""
    driver_connection = connection.connection.driver_connection
    assert driver_connection is not None  # noqa: S101 - only a closed connection has none
    info = driver_connection.info
    row = connection.execute(_FACTS).one()
    rooms = [(row.of_server - row.all_sessions, f"max_connections, for others than superusers {row.of_server}")]
    if row.of_role is not None:
        rooms.append((row.of_role - row.of_user, f"the role's CONNECTION LIMIT {row.of_role}"))
    if row.of_database is not None:
        rooms.append((row.of_database - row.of_this_database, f"the database's CONNECTION LIMIT {row.of_database}"))
    free, limit = min(rooms)
    return Facts(
        version=version_of(info),
        release=info.server_version // 10_000,
        encoding=info.parameter_status("server_encoding") or "unknown",
        link=describe_link(info),
        user=row.user,
        may_create=row.may_create,
        owns=row.owns,
        free=max(free, 0),
        limit=limit,
        ours=row.ours,
        is_firing=row.is_firing,
        filtered=row.filtered,
        readers=row.readers,
        collation=_changed_collation(connection, info.server_version // 10_000),
    )


def _changed_collation(connection: Connection, release: int) -> tuple[str, str] | None:
    if release < COLLATION_IS_KNOWN_SINCE:
        return None
    row = connection.execute(_COLLATION).one()
    return (row.made_by, row.now) if row.made_by and row.now and row.made_by != row.now else None
