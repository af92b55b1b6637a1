"""No operator or function of a stranger's is taken for one of PostgreSQL's.

A transaction looks for names in PostgreSQL's own schema first (sync/postgres/session.py). But of operators and
functions of one name PostgreSQL takes the one whose types fit exactly, wherever in the path it stands; and up to
PostgreSQL 14 everybody may make some in the schema `public`. Such a one would run as the user that owns the mirror. So
what is asked must fit exactly what PostgreSQL has:

* Texts are sent as `text`, as our columns are. SQLAlchemy would say VARCHAR, for which PostgreSQL has no operators.
* A function that takes any type (`unnest` of one array, `array_agg`, `cardinality`, `format`, `concat_ws`) has its
  schema in front.
* What PostgreSQL would have to convert is converted: `name::text || '.'`, `sum(...) <> 0.0`, `settings ->> 'X'::text`.

tests/cli/test_strangers.py holds that, by making operators and functions of all other types. Migrations are not so
written, and what they make keeps the operators that it was made with: they look into no schema of strangers.
"""

from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.dialects.postgresql.psycopg import PGCompiler_psycopg
from sqlalchemy.types import String, TypeEngine

# Who is a member of the user that asks could do all that as that user, too. PostgreSQL's own groups have no members but
# by other means, as being the owner of the database, which is asked for by itself.
_WITHOUT_STRANGERS = text("""
SELECT pg_catalog.quote_ident(space.nspname::text)
FROM pg_catalog.unnest(CAST(:names AS text[])) WITH ORDINALITY AS given (name, place)
JOIN pg_namespace AS space ON space.nspname = given.name
WHERE NOT EXISTS (
  SELECT FROM pg_roles AS stranger
  WHERE NOT stranger.rolsuper AND NOT starts_with(stranger.rolname::text, 'pg_')
    AND NOT pg_has_role(stranger.oid, current_user, 'MEMBER')
    AND has_schema_privilege(stranger.oid, space.oid, 'CREATE'))
ORDER BY given.place
""")


class _TextCompiler(PGCompiler_psycopg):
    def render_bind_cast(self, type_: TypeEngine[Any], dbapi_type: TypeEngine[Any], sqltext: str) -> str:
        if isinstance(dbapi_type, String):
            return f"{sqltext}::TEXT"
        return str(super().render_bind_cast(type_, dbapi_type, sqltext))  # type: ignore[no-untyped-call]  # SQLAlchemy's


def send_texts_as_text(engine: Engine) -> None:
    """Let an engine send each text as `text`, whose operators are PostgreSQL's own."""
    engine.dialect.statement_compiler = _TextCompiler


def look_into_no_schema_of_strangers(connection: Connection) -> None:
    """Take out of the path of a transaction each schema in which somebody else may make something."""
    path = connection.execute(text("SELECT pg_catalog.current_schemas(false)::text[]")).scalar_one()
    connection.execute(text("SET LOCAL search_path = pg_catalog, pg_temp"))
    ours = connection.execute(_WITHOUT_STRANGERS, {"names": path}).scalars()
    path = ", ".join(["pg_catalog", *ours, "pg_temp"])
    connection.execute(text("SELECT pg_catalog.set_config('search_path', :path, true)"), {"path": path})
