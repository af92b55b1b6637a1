"""What the schemas of a database hold, the project's own Alembic on it, and the migrations of the checkout."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from sync.postgres.migrations import make_migration_engine

CHECKOUT = Path(__file__).parents[2]
MIGRATE = """
import sys
from sync.postgres.migrations import migrate
print(*migrate(sys.argv[1]))
"""
CATALOG = """
SELECT n.nspname || '.' || c.relname AS relation, c.relkind::text AS kind, a.attname,
       format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity::text, pg_get_expr(d.adbin, d.adrelid),
       col_description(c.oid, a.attnum), obj_description(c.oid, 'pg_class'), c.reloptions::text
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE n.nspname IN ('mews', 'sync') AND c.relname <> 'alembic_version' AND c.relkind IN ('r', 'p', 'v', 'm')
"""
CONSTRAINTS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace::regnamespace::text IN ('mews', 'sync') AND conrelid::regclass::text <> 'sync.alembic_version'
"""
INDEXES = """
SELECT tablename, indexname, indexdef FROM pg_indexes
WHERE schemaname IN ('mews', 'sync') AND tablename <> 'alembic_version'
"""
VIEWS = "SELECT schemaname, viewname, definition FROM pg_views WHERE schemaname IN ('mews', 'sync')"
FUNCTIONS = """
SELECT oid::regprocedure::text, pg_get_functiondef(oid), proowner::regrole::text,
       ARRAY (SELECT given::text FROM unnest(coalesce(proacl, acldefault('f', proowner))) AS given ORDER BY 1)
FROM pg_proc
WHERE pronamespace::regnamespace::text IN ('mews', 'sync')
"""
TRIGGERS = """
SELECT tgrelid::regclass::text, tgname::text, tgenabled::text, pg_get_triggerdef(t.oid)
FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
WHERE NOT tgisinternal AND c.relnamespace::regnamespace::text IN ('mews', 'sync')
"""


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    """What a query finds."""
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(statement.encode()).fetchall()


def execute(url: str, *statements: str) -> None:
    """Runs statements that return nothing."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def everything(url: str) -> list[tuple[object, ...]]:
    """What the schemas hold: columns, constraints, indexes, views, functions and triggers."""
    kinds = (CATALOG, CONSTRAINTS, INDEXES, VIEWS, FUNCTIONS, TRIGGERS)
    return [row for statement in kinds for row in sorted(query(url, statement), key=str)]


@contextmanager
def alembic(url: str) -> Iterator[Config]:
    """What a developer's `alembic` works with: the project's own configuration, on this database."""
    config = Config(CHECKOUT / "alembic.ini")
    config.set_main_option("script_location", str(CHECKOUT / "migrations"))
    with make_migration_engine(url).connect() as config.attributes["connection"]:
        yield config


def upgrade(url: str, revision: str) -> None:
    """Brings a database to a revision."""
    with alembic(url) as config:
        command.upgrade(config, revision)


def scripts() -> ScriptDirectory:
    """The migrations of the checkout."""
    return ScriptDirectory(str(CHECKOUT / "migrations"))


def head() -> str | None:
    """The newest revision in the checkout."""
    return scripts().get_current_head()
