"""No setting of a role, a database, a URL or the environment changes what a transaction does."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from sqlalchemy import Interval, bindparam, text
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.core.errors import DatabaseUnavailable
from sync.postgres.engine import make_engine, transaction
from sync.postgres.migrations import make_migration_engine
from sync.postgres.own_operators import look_into_no_schema_of_strangers
from sync.postgres.session import ALSO, SETTINGS, begin_statement
from tests.support.database import rows
from tests.support.hostile import NEWER, alter, known_to, make_database_hostile, new_login
from tests.support.pooler import needs_pgbouncer, pooled

OLD, LONG = datetime(1, 1, 1, tzinfo=UTC), timedelta(days=-400, hours=3, seconds=2.5)
STATED = {name: value.strip("'") for name, value in SETTINGS.items()} | {
    "transaction_isolation": "read committed",
    "transaction_read_only": "off",
    "transaction_deferrable": "off",
    "server_encoding": "UTF8",
    "client_encoding": "UTF8",
}
QUERY = text("""
SELECT :instant AS instant, :length AS length, now() > '2020-01-01' AS is_ours, pg_sleep(0.6),
       :one = CAST(:one AS uuid) AS is_equal, 'a\\b' AS backslash, unnest(CAST(:texts AS text[])) AS umlauts
""").bindparams(bindparam("length", type_=Interval))

NEWER_ONES = text("SELECT setting FROM pg_settings WHERE name = ANY (:names)")


async def assert_nothing_is_changed(engine: AsyncEngine) -> None:
    """Everything is as it was stated, and values come back as they went."""
    parameters = {"instant": OLD, "length": LONG, "one": os.urandom(16).hex(), "texts": ["Zoë ☃"]}
    async with transaction(engine) as tx:
        shown = {name: (await tx.execute(text(f"SHOW {name}"))).scalar_one() for name in STATED}
        newer = (await tx.execute(NEWER_ONES, {"names": list(NEWER)})).scalars().all()
        row = (await tx.execute(QUERY, parameters)).mappings().one()
    assert shown == STATED
    assert set(newer) <= {"0", ""}
    assert (row["instant"], row["length"], row["is_ours"], row["is_equal"]) == (OLD, LONG, True, True)
    assert (row["backslash"], row["umlauts"]) == ("a\\b", "Zoë ☃")


def by_url(url: str) -> str:
    """The URL with all the settings in it."""
    settings = {name: value.strip("'").replace(" ", "\\ ") for name, value in known_to(url).items()}
    return make_conninfo(url, options=" ".join(f"-c {name}={value}" for name, value in settings.items()))


@pytest.mark.long
async def test_settings_of_the_database_change_nothing(database_url: str) -> None:
    make_database_hostile(database_url)
    engine = make_engine(database_url)
    await assert_nothing_is_changed(engine)
    await engine.dispose()


@pytest.mark.long
async def test_settings_of_the_role_change_nothing(database_url: str) -> None:
    with new_login(database_url, settings=known_to(database_url)) as url:
        engine = make_engine(url)
        await assert_nothing_is_changed(engine)
        await engine.dispose()


@pytest.mark.long
async def test_options_of_the_url_change_nothing(database_url: str) -> None:
    engine = make_engine(by_url(database_url))
    await assert_nothing_is_changed(engine)
    await engine.dispose()


@pytest.mark.long
async def test_variables_of_the_environment_change_nothing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "SQL_ASCII")
    monkeypatch.setenv("PGDATESTYLE", "German")
    monkeypatch.setenv("PGTZ", "Asia/Kathmandu")
    monkeypatch.setenv("PGOPTIONS", "-c intervalstyle=sql_standard -c statement_timeout=500ms")
    engine = make_engine(database_url)
    await assert_nothing_is_changed(engine)
    await engine.dispose()


def test_nor_do_they_for_migrations(database_url: str) -> None:
    make_database_hostile(database_url)
    engine = make_migration_engine(database_url)
    with engine.begin() as tx:
        shown = {name: tx.execute(text(f"SHOW {name}")).scalar_one() for name in STATED}
    assert shown == STATED


@pytest.mark.long
@needs_pgbouncer
async def test_what_another_client_has_left_in_a_poolers_session_changes_nothing(database_url: str) -> None:
    with pooled(database_url, pool_size=1) as url:
        with psycopg.connect(url, autocommit=True) as other:
            for name, value in known_to(database_url).items():
                if name not in {"client_encoding", "idle_in_transaction_session_timeout"}:
                    other.execute(f"SET {name} = {value}")
            engine = make_engine(url)
            await assert_nothing_is_changed(engine)
            await engine.dispose()
            # And nothing of ours is left to him.
            assert other.execute("SHOW intervalstyle").fetchone() == ("iso_8601",)


async def test_it_takes_no_message_more_than_a_bare_begin(database_url: str, tmp_path: Path) -> None:
    engine = make_engine(database_url).execution_options(**{ALSO: "SET LOCAL enable_sort = off"})
    with (tmp_path / "trace").open("wb") as trace:
        async with engine.connect() as connection:
            raw = (await connection.get_raw_connection()).driver_connection
            assert raw is not None
            raw.pgconn.trace(trace.fileno())
            async with connection.begin():
                assert (await connection.execute(text("SHOW enable_sort"))).scalar_one() == "off"
            raw.pgconn.untrace()
    sent = [line.split("\t")[3] for line in (tmp_path / "trace").read_text().splitlines() if "\tF\t" in line]
    assert sent == ["Query"] * 3, sent
    await engine.dispose()


async def test_no_workers_are_started_for_what_we_ask_however_cheap_a_site_calls_them(database_url: str) -> None:
    """Where joins are discouraged too, each row of one table had workers started for another: a page took minutes."""
    cheap = ("parallel_setup_cost", "parallel_tuple_cost", "min_parallel_table_scan_size")
    make_database_hostile(database_url, dict.fromkeys(cheap, "0"))
    engine = make_engine(database_url)
    async with transaction(engine) as tx:
        plan = (await tx.execute(text("EXPLAIN SELECT count(*) FROM mews.voucher_codes"))).scalars().all()
    assert [line for line in plan if "Gather" in line] == []
    await engine.dispose()


async def test_a_role_s_limit_of_temporary_files_is_named(database_url: str) -> None:
    small = {"temp_file_limit": "0", "work_mem": "'64kB'"}
    with new_login(database_url, "SUPERUSER", settings=small) as url:
        engine = make_engine(url)
        with pytest.raises(DatabaseUnavailable, match="raise its temp_file_limit or its work_mem"):
            await rows(engine, "SELECT count(*) FROM (SELECT n FROM generate_series(1, 9999) AS n ORDER BY -n) AS one")
        await engine.dispose()


def test_an_older_server_is_not_told_what_only_newer_ones_know() -> None:
    assert "transaction_timeout" not in begin_statement(160_009)
    assert "transaction_timeout" in begin_statement(170_000)
    kinds = "restrict_nonsystem_relation_kind"
    known = {version: kinds in begin_statement(version) for version in (140_012, 140_013, 150_007, 150_008, 170_000)}
    assert known == {140_012: False, 140_013: True, 150_007: False, 150_008: True, 170_000: True}


USERS_OWN = """
CREATE SCHEMA shop;
CREATE TABLE shop.seen (id uuid);
CREATE FUNCTION shop.see() RETURNS trigger LANGUAGE plpgsql
  AS 'BEGIN INSERT INTO seen VALUES (NEW.id); RETURN NEW; END';
CREATE TRIGGER see AFTER INSERT ON mews.enterprises FOR EACH ROW EXECUTE FUNCTION shop.see();
"""


@pytest.mark.parametrize("path", ['"$user", public, shop', "shop", "public, shop, pg_catalog"])
async def test_what_a_users_trigger_looks_for_in_the_sessions_path_is_found(database_url: str, path: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(USERS_OWN)
    engine = make_engine(make_conninfo(database_url, options=f"-c search_path={path.replace(' ', '')}"))
    async with transaction(engine) as tx:
        await tx.execute(
            text("INSERT INTO mews.enterprises (id, name, connection) VALUES (gen_random_uuid(), 'A', 'default')")
        )
        assert (await tx.execute(text("SELECT count(*) FROM shop.seen"))).scalar_one() == 1
    await engine.dispose()


@pytest.mark.parametrize("path", ["", '""', "$user", "nowhere,pg_temp"])
async def test_postgresqls_own_come_first_and_temporary_tables_last_in_any_path(database_url: str, path: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(alter("DATABASE", admin.info.dbname, {"search_path": f"'{path}'"}))
    engine = make_engine(database_url)
    async with transaction(engine) as tx:
        names = (await tx.execute(text("SHOW search_path"))).scalar_one().split(", ")
        await tx.execute(text("CREATE TEMPORARY TABLE pg_class (nothing int)"))
        await tx.execute(text("SELECT relname FROM pg_class"))
    assert (names[0], names[-1]) == ("pg_catalog", "pg_temp")
    await engine.dispose()


def test_a_migration_looks_into_a_schema_of_any_name(database_url: str) -> None:
    """But where others may make something in it."""
    path = '"theirs", "shop :one", "100% of, all"'
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute('CREATE SCHEMA "theirs"; CREATE SCHEMA "shop :one"; CREATE SCHEMA "100% of, all"')
        admin.execute("GRANT USAGE, CREATE ON SCHEMA theirs TO PUBLIC")
        admin.execute(alter("DATABASE", admin.info.dbname, {"search_path": path}))
        with new_login(database_url):
            engine = make_migration_engine(database_url)
            with engine.begin() as connection:
                look_into_no_schema_of_strangers(connection)
                found = connection.scalar(text("SELECT pg_catalog.current_schemas(false)::text[]"))
            engine.dispose()
    assert found == ["pg_catalog", "shop :one", "100% of, all"]
