"""Of the database's errors only codes and names are told: its texts quote rows, and a user's trigger says anything."""

import asyncio
import socket
import traceback

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.core.errors import DatabaseError, NotMigrated, StatementRefused
from sync.postgres.wording import function_of, set_off_by_ours, words_of
from tests.support.database import code, execute, rows, store

FATAL = b"SFATAL\0C28000\0Mno \x1b[31mred\x1b]0;title\x07 one\0\0"
VALUE = "S3CRETCODE"
INSERT = "INSERT INTO things VALUES (:value)"


def speaking(statement: str) -> str:
    """A trigger on the table that says what it likes."""
    return (
        f"CREATE FUNCTION speak() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {statement}; END $$; "
        "CREATE TRIGGER speak BEFORE INSERT ON things FOR EACH ROW EXECUTE FUNCTION speak()"
    )


REFUSALS = {
    "a unique index": (
        f"CREATE UNIQUE INDEX twice ON things (value); INSERT INTO things VALUES ('{VALUE}')",
        "23505.*UniqueViolation, constraint twice of public.things$",
    ),
    "an exclusion constraint": (
        "ALTER TABLE things ADD CONSTRAINT apart EXCLUDE USING btree (value WITH =); "
        f"INSERT INTO things VALUES ('{VALUE}')",
        "23P01.*constraint apart of public.things$",
    ),
    "a check": (
        "ALTER TABLE things ADD CONSTRAINT short CHECK (length(value) < 3)",
        "23514.*constraint short of public.things$",
    ),
    "a foreign key that waits for the commit": (
        "CREATE TABLE known (value text PRIMARY KEY); ALTER TABLE things ADD CONSTRAINT is_known FOREIGN KEY (value) "
        "REFERENCES known DEFERRABLE INITIALLY DEFERRED",
        "23503.*constraint is_known of public.things$",
    ),
    "a column that must be given": (
        "ALTER TABLE things ADD COLUMN owner text NOT NULL",
        "23502.*column owner of public.things$",
    ),
    "an index that cannot be computed": ("CREATE INDEX ON things ((value::int))", "22P02.*InvalidTextRepresentation$"),
    "a domain": (
        "CREATE DOMAIN brief AS text CHECK (length(VALUE) < 3); ALTER TABLE things ALTER COLUMN value TYPE brief",
        "23514.*CheckViolation$",
    ),
    "a rule that does something besides": (
        "CREATE RULE besides AS ON INSERT TO things WHERE false DO ALSO DELETE FROM things; "
        "ALTER TABLE things ADD UNIQUE (value)",
        "0A000.*INSERT with ON CONFLICT clause cannot be used with table that has INSERT or UPDATE rules$",
    ),
    "what a trigger says": (speaking("RAISE '% is bad', NEW.value"), "P0001.*RaiseException in function speak$"),
    "a trigger that gives names": (
        speaking("RAISE unique_violation USING MESSAGE = NEW.value, CONSTRAINT = NEW.value, TABLE = NEW.value"),
        "23505.*UniqueViolation in function speak$",
    ),
    "a trigger that says a table is missing": (
        speaking("RAISE undefined_table USING MESSAGE = NEW.value"),
        "42P01.*UndefinedTable in function speak$",
    ),
    "a trigger whose statement is made of it": (
        speaking("EXECUTE 'SELECT ' || NEW.value"),
        "42703.*UndefinedColumn in function speak$",
    ),
    "a trigger that calls a disk full": (
        speaking("RAISE disk_full USING MESSAGE = NEW.value"),
        r"no room left on its disk \(53100\); make room",
    ),
    "a trigger with a code of its own": (speaking("RAISE USING ERRCODE = 'HX001', MESSAGE = NEW.value"), "HX001"),
}


@pytest.mark.parametrize(("trouble", "words"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_of_a_refusal_the_code_and_names_are_told(
    engine: AsyncEngine, database_url: str, trouble: str, words: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(f"CREATE TABLE things (value text); {trouble}".encode())
    with pytest.raises(DatabaseError, match=words) as caught:
        await execute(engine, INSERT if "ON CONFLICT" not in words else f"{INSERT} ON CONFLICT DO NOTHING", value=VALUE)
    assert VALUE.lower() not in "".join(traceback.format_exception(caught.value)).lower()
    assert not isinstance(caught.value, NotMigrated)


async def test_what_the_driver_does_not_send_or_cannot_read_is_not_told(engine: AsyncEngine) -> None:
    for statement, parameters in (
        ("SELECT :value", {"value": f"{VALUE}\0"}),
        ("SELECT '10000-12-24'::date", {}),
    ):
        with pytest.raises(DatabaseError, match=r"DataError$") as caught:
            await rows(engine, statement, **parameters)
        assert not any(one in str(caught.value) for one in (VALUE, "10000"))


async def test_what_our_own_triggers_refuse_is_told_in_their_words(engine: AsyncEngine) -> None:
    with pytest.raises(DatabaseError, match="operation: must be 'add' or 'delete'"):
        await execute(engine, "INSERT INTO mews.voucher_code_outbox (operation) VALUES ('move')")


BEHIND_OURS = {
    "a trigger": (
        "CREATE FUNCTION speak() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE USING ERRCODE = '08001', "
        f"MESSAGE = '{VALUE}'; END $$; CREATE TRIGGER speak BEFORE INSERT ON mews.voucher_code_versions "
        "FOR EACH ROW EXECUTE FUNCTION speak()",
        "SqlclientUnableToEstablishSqlconnection in function public.speak",
    ),
    "a check": (
        "ALTER TABLE mews.voucher_code_versions ADD CONSTRAINT none CHECK (value IS NULL)",
        "CheckViolation, constraint none of mews.voucher_code_versions",
    ),
}


@pytest.mark.parametrize(("trouble", "words"), BEHIND_OURS.values(), ids=BEHIND_OURS.keys())
async def test_what_refuses_the_statement_of_a_trigger_of_ours_is_named_and_not_that_trigger(
    engine: AsyncEngine, database_url: str, trouble: str, words: str
) -> None:
    await store(engine, code(1))
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(trouble.encode())
    with pytest.raises(StatementRefused) as caught:
        await execute(engine, "UPDATE mews.voucher_codes SET mirrored_at = now()")
    assert caught.value.words == words


LINES = {
    "cs": "PL/pgSQL funkce {} řádek 1 na RAISE",
    "de": "PL/pgSQL-Funktion {} Zeile 1 bei RAISE",
    "en": "PL/pgSQL function {} line 1 at RAISE",
    "es": "función PL/pgSQL {} en la línea 1 en RAISE",
    "fr": "fonction PL/pgSQL {}, ligne 1 à RAISE",
    "ja": "PL/pgSQL関数{}の1行目 - RAISE",
    "ko": 'PL/pgSQL 함수 "{}" 의 1번째 RAISE',
    "ru": "функция PL/pgSQL {}, строка 1, оператор RAISE",
    "tr": "{} PL/pgSQL fonksiyonu, 1. satır, RAISE içinde",
    "zh_CN": "在RAISE的第1行的PL/pgSQL函数{}",
}
"""From the catalogs that PostgreSQL comes with: a function, as a server says it in this language (`lc_messages`)."""


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
def test_a_function_is_known_in_whatever_language_the_server_speaks(line: str) -> None:
    for name, types in (("speak", ""), ("shop.speak", "text, integer[]"), ('"Prüfe das"', ""), ('shop."No"', "")):
        users, ours = line.format(f"{name}({types})"), line.format("sync.keep_versions()")
        assert function_of(users) == name
        assert set_off_by_ours(f"bad {VALUE}\n{users}\nSQL »INSERT INTO x\n  SELECT 1«\n{ours}") == users
        assert (function_of(ours), set_off_by_ours(ours)) == ("sync.keep_versions", "")


@pytest.mark.parametrize(
    "line",
    [
        f"COPY things, line 1, column value: PL/x {VALUE}()",
        f'SQL statement "SELECT PL/x, {VALUE}()"',
        f"SQL-Anweisung »SELECT 'PL/x', {VALUE}(1), 2()«",
        "PL/pgSQL function inline_code_block line 1 at RAISE",
        f'PL/pgSQL assignment "x := {VALUE}()"',
    ],
)
def test_a_line_that_may_hold_a_value_names_no_function(line: str) -> None:
    assert function_of(line) is None


async def test_a_server_whose_programs_were_replaced_while_it_ran_is_told_as_one(engine: AsyncEngine) -> None:
    """Then a new session finds no library any more; here there was never one."""
    missing = "CREATE FUNCTION pg_temp.missing() RETURNS int LANGUAGE c AS '/nowhere/at_all'"
    with pytest.raises(DatabaseError, match=r"misses a file of its own \(58P01\); start it anew"):
        await execute(engine, missing)


async def test_whatever_answers_in_a_server_s_place_writes_nothing_to_a_terminal_but_words() -> None:
    def refuse(listening: socket.socket) -> None:
        asked, _ = listening.accept()
        with asked:
            asked.recv(1024)
            asked.sendall(b"E" + (len(FATAL) + 4).to_bytes(4, "big") + FATAL)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        answering = asyncio.create_task(asyncio.to_thread(refuse, listening))
        url = f"postgresql://someone@127.0.0.1:{listening.getsockname()[1]}/any?sslmode=disable"
        with pytest.raises(psycopg.OperationalError) as raised:
            await psycopg.AsyncConnection.connect(url)
        await answering
    assert "red" in words_of(raised.value)
    assert words_of(raised.value).isprintable()
