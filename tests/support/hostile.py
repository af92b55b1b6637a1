"""Everything that a role's or a database's settings can bring along, as nobody would set it, all of it allowed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

PASSWORD = "not-a-secret"

IMPOSTORS = """
DROP SCHEMA IF EXISTS impostors CASCADE;
CREATE SCHEMA impostors;
GRANT USAGE ON SCHEMA impostors TO PUBLIC;
CREATE DOMAIN impostors.text AS pg_catalog.text CHECK (VALUE = 'only this');
CREATE TABLE impostors.voucher_codes (nothing int);
CREATE FUNCTION impostors.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT timestamptz '1970-01-01' $$;
CREATE FUNCTION impostors.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT timestamptz '1970-01-01' $$;
CREATE FUNCTION impostors.gen_random_uuid() RETURNS uuid LANGUAGE sql AS $$ SELECT uuid(repeat('0', 32)) $$;
CREATE FUNCTION impostors.nothing(uuid[]) RETURNS uuid[] LANGUAGE sql AS $$ SELECT '{}'::uuid[] $$;
CREATE FUNCTION impostors.unnest(uuid[]) RETURNS SETOF uuid LANGUAGE sql AS $$ SELECT uuid(repeat('0', 32)) $$;
CREATE FUNCTION impostors.cardinality(uuid[]) RETURNS int LANGUAGE sql AS $$ SELECT 0 $$;
CREATE AGGREGATE impostors.array_agg(uuid) (SFUNC = array_append, STYPE = uuid[], FINALFUNC = impostors.nothing);
CREATE FUNCTION impostors.set_config(pg_catalog.text, pg_catalog.text, boolean) RETURNS pg_catalog.text
  LANGUAGE sql AS $$ SELECT 'nothing was set' $$;
CREATE FUNCTION impostors.never(uuid, uuid) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
CREATE OPERATOR impostors.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = impostors.never);
CREATE FUNCTION impostors.always(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
CREATE OPERATOR impostors.> (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = impostors.always);
"""
"""Functions, operators and a type that look like PostgreSQL's own, to be found before them."""

FREEZE = "CREATE FUNCTION public.freeze_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$"
FROZEN = "CREATE TRIGGER frozen BEFORE UPDATE ON {} FOR EACH ROW EXECUTE FUNCTION public.freeze_it()"
"""A table each row of which stays as it is, without a word, and counts as changed all the same."""

SETTINGS = {
    "search_path": "impostors, pg_catalog, public",
    "datestyle": "'SQL, DMY'",
    "intervalstyle": "iso_8601",
    "timezone": "'America/St_Johns'",
    "client_encoding": "latin1",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "quote_all_identifiers": "on",
    "transform_null_equals": "on",
    "array_nulls": "off",
    "xmloption": "document",
    "check_function_bodies": "off",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "statement_timeout": "'500ms'",
    "lock_timeout": "'1ms'",
    "idle_in_transaction_session_timeout": "'1ms'",
    "row_security": "off",
    "synchronous_commit": "off",
    "exit_on_error": "on",
    "client_min_messages": "debug1",
    "jit": "on",
    "jit_above_cost": "0",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_nestloop": "off",
}

NEWER = {"transaction_timeout": "'500ms'", "restrict_nonsystem_relation_kind": "'view, foreign-table'"}
"""Those that not every release knows."""
KNOWN = "SELECT name FROM pg_settings WHERE name = ANY (%s)"


def alter(owner: str, name: str, settings: Mapping[str, str]) -> sql.Composed:
    """The statements that set all this for a ROLE or a DATABASE."""
    of = sql.SQL("ALTER {} {}").format(sql.SQL(owner), sql.Identifier(name))
    lines = (sql.SQL(f"SET {setting} = {value}") for setting, value in settings.items())
    return sql.SQL("; ").join(sql.SQL("{} {}").format(of, line) for line in lines)


def known_to(url: str) -> dict[str, str]:
    """The settings that this server knows."""
    with psycopg.connect(url) as session:
        newer = session.execute(KNOWN, [list(NEWER)]).fetchall()
    return SETTINGS | {name: NEWER[name] for (name,) in newer}


def make_database_hostile(url: str, settings: Mapping[str, str] | None = None) -> None:
    """Set all of it, or these, for every session that is opened from now on; with impostors to be found."""
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(IMPOSTORS)
        admin.execute(alter("DATABASE", admin.info.dbname, settings or known_to(url)))


def make_database_kind(url: str) -> None:
    """Set nothing any more."""
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("SET default_transaction_read_only = off")
        admin.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(sql.Identifier(admin.info.dbname)))


@contextmanager
def new_login(url: str, options: str = "", *, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """The URL of the same database for a new role with these options and settings, gone afterwards with all it owns."""
    name = f"test_{uuid4().hex}"
    role = sql.Identifier(name)
    with psycopg.connect(url, autocommit=True) as admin:
        made = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} {}")
        admin.execute(made.format(role, sql.Literal(PASSWORD), sql.SQL(options)))
        if settings:
            admin.execute(alter("ROLE", name, settings))
    yield make_conninfo(url, user=name, password=PASSWORD)
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("SET default_transaction_read_only = off")
        admin.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(role))
        admin.execute(sql.SQL("DROP ROLE {}").format(role))


@contextmanager
def new_owner(url: str, options: str = "") -> Iterator[str]:
    """The same for the database's owner, who is nobody special otherwise, as deploy/README makes it."""
    with psycopg.connect(url, autocommit=True) as admin:
        database, before = admin.info.dbname, admin.info.user
        with new_login(url, options) as own:
            name = psycopg.conninfo.conninfo_to_dict(own)["user"]
            to = sql.SQL("ALTER DATABASE {} OWNER TO {}")
            admin.execute(to.format(sql.Identifier(database), sql.Identifier(str(name))))
            yield own
            admin.execute("SET default_transaction_read_only = off")
            admin.execute(to.format(sql.Identifier(database), sql.Identifier(before)))
