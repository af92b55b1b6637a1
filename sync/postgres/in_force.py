"""Whether tables of ours are as they were made, and take what is written to them: what `check` looks at.

An owner can drop, disable or rename all that guards them, and add what refuses every statement. Neither is seen by who
reads, and the one only by what is done twice.
"""

from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy import Connection, Executable, Index, Table, delete, false, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from sync.core.errors import DatabaseError, NotAllowed, StatementRefused
from sync.postgres.engine import translate
from sync.postgres.metadata import BYTEWISE, IS_UNLOGGED

# An index that is not valid finds nothing, and one that was left so by a build that failed guards nothing. Nor does one
# that somebody has built anew under its name otherwise than it was made.
_IN_FORCE = text("""
SELECT space.nspname::text || '.' || relation.relname::text AS of_table, part.name, part.made
FROM pg_class AS relation JOIN pg_namespace AS space ON space.oid = relation.relnamespace JOIN (
  SELECT indrelid AS relid, index.relname AS name, made FROM pg_index JOIN pg_class AS index ON index.oid = indexrelid
  CROSS JOIN pg_catalog.unnest(ARRAY['', 'unique', 'bytewise']) AS made
  WHERE indisvalid AND (made <> 'unique' OR indisunique) AND (made <> 'bytewise' OR NOT EXISTS (
    SELECT FROM pg_collation WHERE oid = ANY (indcollation) AND collname NOT IN ('C', 'POSIX')))
  UNION ALL SELECT conrelid, conname, '' FROM pg_constraint WHERE convalidated
  UNION ALL SELECT tgrelid, tgname, '' FROM pg_trigger WHERE tgenabled IN ('O', 'A')
) AS part ON part.relid = relation.oid
WHERE space.nspname = ANY (:schemas)
""")

# A trigger before the row may fill such a column in. A domain may forbid null too, or one that it is made of.
_MUST_BE_GIVEN = text("""
WITH RECURSIVE not_null (oid) AS (
  SELECT oid FROM pg_type WHERE typtype = 'd' AND typnotnull
  UNION SELECT made.oid FROM pg_type AS made JOIN not_null ON made.typbasetype = not_null.oid
)
SELECT space.nspname::text || '.' || relation.relname::text AS of_table, own.attname AS name
FROM pg_attribute AS own JOIN pg_class AS relation ON relation.oid = own.attrelid
JOIN pg_namespace AS space ON space.oid = relation.relnamespace JOIN pg_type AS kind ON kind.oid = own.atttypid
WHERE space.nspname = ANY (:schemas) AND relation.relkind = 'r' AND own.attnum > 0
  AND (own.attnotnull OR own.atttypid IN (SELECT oid FROM not_null)) AND kind.typdefault IS NULL
  AND NOT own.atthasdef AND own.attidentity = '' AND NOT own.attisdropped AND NOT EXISTS (
    SELECT FROM pg_trigger AS filling WHERE filling.tgrelid = relation.oid AND filling.tgtype & 7::smallint = 7)
ORDER BY 1, 2
""")
_UNLOGGED = text("""
SELECT space.nspname::text || '.' || relation.relname::text
FROM pg_class AS relation JOIN pg_namespace AS space ON space.oid = relation.relnamespace
WHERE space.nspname = ANY (:schemas) AND relation.relkind = 'r' AND relation.relpersistence = 'u' ORDER BY 1
""")

_INHERITING = text("""
SELECT space.nspname::text || '.' || relation.relname::text AS of_table,
       theirs.nspname::text || '.' || heir.relname::text AS name
FROM pg_inherits JOIN pg_class AS relation ON relation.oid = inhparent
JOIN pg_namespace AS space ON space.oid = relation.relnamespace
JOIN pg_class AS heir ON heir.oid = inhrelid JOIN pg_namespace AS theirs ON theirs.oid = heir.relnamespace
WHERE space.nspname = ANY (:schemas) ORDER BY 1, 2
""")


def not_in_force(connection: Connection, tables: Sequence[Table], triggers: Iterable[tuple[str, str]]) -> list[str]:
    """Indexes and constraints of `tables`, and `triggers` (table, name), that are gone, disabled, not valid,
    or of less use.

    An index is of less use where it was made unique, or to compare texts byte by byte, and is not.
    """
    found = {tuple(row) for row in connection.execute(_IN_FORCE, _schemas(tables))}
    indexes = {
        (table.fullname, str(index.name), made) for table in tables for index in table.indexes for made in _made(index)
    }
    constraints = {
        (table.fullname, str(constraint.name), "")
        for table in tables
        for constraint in table.constraints
        # A table without a primary key has an empty one here.
        if constraint is not table.primary_key or table.primary_key.columns
    }
    missing = {*indexes, *constraints, *((*trigger, "") for trigger in triggers)} - found
    return [f"{name} of {table}" for table, name in sorted({part[:2] for part in missing})]


def _made(index: Index) -> Iterator[str]:
    """What an index was made for, in the words of the statement above."""
    yield ""
    if index.unique:
        yield "unique"
    if BYTEWISE in index.dialect_options["postgresql"]["ops"].values():
        yield "bytewise"


def unlogged(connection: Connection, tables: Sequence[Table]) -> list[str]:
    """Which tables a crash of the server empties, other than those that were made so."""
    lasting = {table.fullname for table in tables if not table.info.get(IS_UNLOGGED)}
    return [name for name in connection.execute(_UNLOGGED, _schemas(tables)).scalars() if name in lasting]


def inheriting(connection: Connection, tables: Sequence[Table]) -> list[str]:
    """Which tables of somebody else's inherit one of these, so that their rows count as its own: no key, constraint to
    another table or trigger of it holds for them.
    """
    found = connection.execute(_INHERITING, _schemas(tables))
    names = {table.fullname for table in tables}
    return [f"{row.name} (of {row.of_table})" for row in found if row.of_table in names]


def must_be_given(connection: Connection, tables: Sequence[Table]) -> list[str]:
    """Columns of `tables` that are somebody else's and may not be null, which no INSERT of ours fills in."""
    known = {(table.fullname, column.name) for table in tables for column in table.columns}
    names = {table.fullname for table in tables}
    found = connection.execute(_MUST_BE_GIVEN, _schemas(tables))
    return [f"{row.name} of {row.of_table}" for row in found if row.of_table in names and tuple(row) not in known]


def refusals(connection: Connection, tables: Sequence[Table]) -> list[str]:
    """Which statements are refused whatever rows they are for, each with the reason.

    They are tried for no row, and rolled back. So it finds rules, triggers for each statement, publications that cannot
    tell rows apart, and privileges that are gone. Raises the driver's error for what is not the tables'.
    """
    found = []
    for table in tables:
        for verb, statement in _for_no_row(table):
            trial = connection.begin_nested()
            try:
                connection.execute(statement)
            except DBAPIError as error:
                refusal = translate(error)
                if type(refusal) not in (DatabaseError, StatementRefused, NotAllowed):
                    raise
                found.append(f"{verb} of {table.fullname}: {refusal}")
            finally:
                trial.rollback()
    return found


def _for_no_row(table: Table) -> Iterator[tuple[str, Executable]]:
    column = next(one for one in table.columns if one.identity is None)
    none = select(column).where(false())
    yield "INSERT", insert(table).from_select([column.name], none, include_defaults=False).on_conflict_do_nothing()
    yield "UPDATE", update(table).where(false()).values({column: column})
    yield "DELETE", delete(table).where(false())


def _schemas(tables: Sequence[Table]) -> dict[str, list[str | None]]:
    return {"schemas": list({table.schema for table in tables})}
