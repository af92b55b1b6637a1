"""The roles for readers, writers and operators: whether they are there, what they lack, and giving it to them.

A role belongs to the whole server, so it may have been there before, or be made by somebody else at any time; what it
may do in this database is granted by who owns the schema.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql
from psycopg.errors import DuplicateObject, InsufficientPrivilege
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from sync.audit.tables import audits, voucher_audits
from sync.connection.tables import connections, freshness, incarnation, reservations
from sync.fleet.tables import daemons
from sync.mirror.tables import code_counts, plans, rejected_records, skipped, voucher_targets, windows
from sync.outbox.tables import outbox
from sync.postgres.engine import translate
from sync.postgres.migrations import make_migration_engine
from sync.postgres.schema_version import current_revision, refuse_unknown_revision
from sync.service.tables import outages, request_failures, runs, samples

READER, WRITER, OPERATOR = "mews_reader", "mews_writer", "mews_operator"
INSERTED = [column.name for column in outbox.c]
UPDATED = [name for name in INSERTED if name != outbox.c.id.name]
"""Mappers send every column that they know; the outbox's triggers say which change is right."""
MOVED = ["status", "not_before", "note", "priority"]
"""What operators change of a row that others have queued, and no more: they queue nothing themselves."""
TARGETS, SET = voucher_targets.fullname, ["INSERT", "UPDATE", "DELETE"]
"""Where operators say how many codes a voucher is to have, and by what."""
TOLD = sorted(
    [
        "sync.alembic_version",
        freshness.fullname,
        *(table.fullname for table in (audits, voucher_audits, connections, incarnation, reservations, daemons)),
        *(table.fullname for table in (code_counts, plans, rejected_records, skipped, windows)),
        *(table.fullname for table in (outages, request_failures, runs, samples)),
    ]
)
"""What `status` and the page tell of schema `sync`, which operators read."""
TOLD_IN_PART = {
    connections.fullname: [
        "name", "state", "state_since", "error", "heartbeat_at", "caught_up_as_of", "caught_up_through",
        "platform_address", "token_fingerprint", "error_kind", "origin", "paused_at", "paused_because", "removed_at",
        "added_at", "owner", "epoch", "place", "enterprise_ids",
    ],
    rejected_records.fullname: ["connection", "kind", "reason", "first_seen_at", "sqlstate"],
}  # fmt: skip
"""Of these not all: no token, not even encrypted, and no record as the API sent it."""

# With the sequences: `pg_dump` reads them, and mappers ask one for the number of the row that they have queued.
_TABLES = text("""
SELECT pg_catalog.format('%I.%I', namespace.nspname, class.relname) AS name,
       has_schema_privilege(:role, namespace.oid, 'USAGE')
       AND has_table_privilege(:role, class.oid, 'SELECT') AS readable
FROM pg_class AS class JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE namespace.nspname = 'mews' AND class.relkind IN ('r', 'v', 'S') AND class.relowner = namespace.nspowner
ORDER BY name
""")
_FUNCTIONS = text("""
SELECT function.oid::regprocedure::text AS name, has_function_privilege(:role, function.oid, 'EXECUTE') AS callable
FROM pg_proc AS function JOIN pg_namespace AS namespace ON namespace.oid = function.pronamespace
WHERE namespace.nspname = 'mews' AND function.proowner = namespace.nspowner
ORDER BY name
""")
_ROLES = text("""
SELECT role.rolname AS name, role.rolcanlogin OR role.rolsuper AS is_more_than_a_group,
       (SELECT count(*) FROM pg_auth_members AS member WHERE member.roleid = role.oid) AS members
FROM pg_roles AS role WHERE role.rolname = ANY (:names)
""")
_OWNER = text("SELECT nspowner::regrole::text, pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'mews'")
_LACKING = text("""
SELECT privilege, column_name
FROM unnest(CAST(:privileges AS text[]), CAST(:names AS text[])) AS wanted (privilege, column_name)
WHERE NOT has_column_privilege(:role, 'mews.voucher_code_outbox', column_name, privilege)
""")
_LACKING_OF_TARGETS = text("""
SELECT privilege FROM pg_catalog.unnest(CAST(:privileges AS text[])) AS privilege
WHERE NOT has_table_privilege(:role, 'mews.voucher_targets', privilege)
""")
# By their numbers: names in a schema that the present user may not use cannot be looked up.
_UNTOLD = text("""
SELECT DISTINCT pg_catalog.format('%I.%I', namespace.nspname, class.relname) AS name
FROM pg_class AS class JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
JOIN pg_attribute AS attribute ON attribute.attrelid = class.oid AND attnum > 0 AND NOT attisdropped
JOIN unnest(CAST(:names AS text[]), CAST(:columns AS text[])) AS told (name, column_name)
  ON told.name = pg_catalog.format('%I.%I', namespace.nspname, class.relname)
 AND attname = coalesce(told.column_name, attname)
WHERE NOT (has_schema_privilege(:role, namespace.oid, 'USAGE')
           AND has_column_privilege(:role, class.oid, attnum, 'SELECT'))
ORDER BY name
""")


@dataclass(frozen=True, slots=True)
class Role:
    """A role of ours. `members`: None where there is no such role. `lacks`: what it cannot do in this database yet.

    `is_more_than_a_group`: it may log in, or may do everything: somebody has made it for another purpose.
    """

    name: str
    members: int | None
    is_more_than_a_group: bool
    lacks: Sequence[str]

    @property
    def is_ready(self) -> bool:
        """Whether a member of it can do all that it is for."""
        return self.members is not None and not self.lacks


@dataclass(frozen=True, slots=True)
class Mended:
    """What `mend` has done, and the SQL that somebody else must run. `roles` are as they are now."""

    made: Sequence[str]
    granted: bool
    left: Sequence[str]
    roles: Sequence[Role]


def look(connection: Connection) -> list[Role]:
    """Our roles, as they are in a migrated database."""
    names = (READER, WRITER, OPERATOR)
    there = {row.name: row for row in connection.execute(_ROLES, {"names": list(names)})}
    found = []
    for name in names:
        row = there.get(name)
        if row is None:
            found.append(Role(name, None, is_more_than_a_group=False, lacks=[]))
            continue
        tables = connection.execute(_TABLES, {"role": name}).all()
        lacks = [f"SELECT on {table.name}" for table in tables if not table.readable]
        functions = connection.execute(_FUNCTIONS, {"role": name}).all()
        lacks += [f"EXECUTE on {function.name}" for function in functions if not function.callable]
        if name == WRITER:
            lacks += _lacking(connection, WRITER, {"INSERT": INSERTED, "UPDATE": UPDATED})
        if name == OPERATOR:
            lacks += _lacks_of_operator(connection)
        found.append(Role(name, row.members, row.is_more_than_a_group, lacks))
    return found


def _lacks_of_operator(connection: Connection) -> list[str]:
    of_targets = connection.execute(_LACKING_OF_TARGETS, {"role": OPERATOR, "privileges": SET}).scalars()
    told = [(name, column) for name in TOLD for column in TOLD_IN_PART.get(name, [None])]
    names, columns = zip(*told, strict=True)
    untold = connection.execute(_UNTOLD, {"role": OPERATOR, "names": list(names), "columns": list(columns)}).scalars()
    return [
        *_lacking(connection, OPERATOR, {"UPDATE": MOVED}),
        *(f"{one} on {TARGETS}" for one in of_targets),
        *(f"SELECT on {name}" for name in untold),
    ]


def _lacking(connection: Connection, role: str, wanted: Mapping[str, Sequence[str]]) -> list[str]:
    privileges = [privilege for privilege, names in wanted.items() for _ in names]
    names = [name for names in wanted.values() for name in names]
    columns = connection.execute(_LACKING, {"role": role, "privileges": privileges, "names": names}).all()
    return [f"{one.privilege} ({one.column_name}) on {outbox.fullname}" for one in columns]


def look_for_roles(database_url: str) -> list[Role]:
    """The same by an address. Raises `DatabaseError`."""
    try:
        with make_migration_engine(database_url).connect() as connection:
            return look(connection)
    except DBAPIError as error:
        raise translate(error) from None


def mend(database_url: str) -> Mended:
    """Make the roles that are missing and grant what they lack, as far as this user may. Raises `DatabaseError`."""
    try:
        with make_migration_engine(database_url).begin() as connection:
            refuse_unknown_revision(_revision(connection))
            missing = [role.name for role in look(connection) if role.members is None]
            made = [name for name in missing if _make(connection, name)]
            there = [role for role in look(connection) if role.members is not None]
            left = [f"CREATE ROLE {_quoted(name)} NOLOGIN;" for name in missing if name not in made]
            granted = False
            if any(role.lacks for role in there):
                owner, is_ours = connection.execute(_OWNER).one()
                statements = _grants(connection, [role.name for role in there], owner)
                if is_ours:
                    for statement in statements:
                        connection.execute(text(statement))
                    granted = True
                else:
                    left += [f"{statement};" for statement in statements]
            return Mended(made, granted, left, look(connection))
    except DBAPIError as error:
        raise translate(error) from None


def _revision(connection: Connection) -> str | None:
    """The schema's, as far as this user may see it."""
    try:
        with connection.begin_nested():
            return current_revision(connection)
    except DBAPIError as error:
        if isinstance(error.orig, InsufficientPrivilege):
            return None
        raise


def _make(connection: Connection, name: str) -> bool:
    """Whether the role is there now."""
    try:
        with connection.begin_nested():
            connection.execute(text(f"CREATE ROLE {_quoted(name)} NOLOGIN"))
    except DBAPIError as error:
        if isinstance(error.orig, DuplicateObject):
            return True
        if isinstance(error.orig, InsufficientPrivilege):
            return False
        raise
    return True


def _grants(connection: Connection, names: Sequence[str], owner: str) -> list[str]:
    roles = ", ".join(map(_quoted, names))
    tables = ", ".join(connection.execute(_TABLES, {"role": names[0]}).scalars())
    # Everybody may call a function, unless a site has taken that away; views call some for who reads them.
    functions = ", ".join(connection.execute(_FUNCTIONS, {"role": names[0]}).scalars())
    grants = [
        f"GRANT USAGE ON SCHEMA mews TO {roles}",
        f"GRANT SELECT ON {tables} TO {roles}",
        f"GRANT EXECUTE ON FUNCTION {functions} TO {roles}",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA mews GRANT SELECT ON TABLES TO {roles}",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA mews GRANT SELECT ON SEQUENCES TO {roles}",
    ]
    if WRITER in names:
        inserted, updated = ", ".join(INSERTED), ", ".join(UPDATED)
        grants.append(f"GRANT INSERT ({inserted}), UPDATE ({updated}) ON {outbox.fullname} TO {_quoted(WRITER)}")
    if OPERATOR in names:
        whole = [name for name in TOLD if name not in TOLD_IN_PART]
        grants += [
            f"GRANT UPDATE ({', '.join(MOVED)}) ON {outbox.fullname} TO {_quoted(OPERATOR)}",
            f"GRANT {', '.join(SET)} ON {TARGETS} TO {_quoted(OPERATOR)}",
            # Else whoever may use the schema could have what runs as its owner run for a table of his own.
            "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA sync FROM PUBLIC",
            f"GRANT USAGE ON SCHEMA sync TO {_quoted(OPERATOR)}",
            f"GRANT SELECT ON {', '.join(whole)} TO {_quoted(OPERATOR)}",
            *(
                f"GRANT SELECT ({', '.join(TOLD_IN_PART[name])}) ON {name} TO {_quoted(OPERATOR)}"
                for name in TOLD_IN_PART
            ),
        ]
    return grants


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string()
