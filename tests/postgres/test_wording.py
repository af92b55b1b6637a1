"""Of the database's errors only codes and names are told: its texts quote rows, and a user's trigger says anything."""

import traceback

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.core.errors import DatabaseError, NotMigrated
from tests.support.database import execute, rows

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
        ("SELECT '10000-12-24Z'::timestamptz", {}),
    ):
        with pytest.raises(DatabaseError, match=r"DataError$") as caught:
            await rows(engine, statement, **parameters)
        assert not any(one in str(caught.value) for one in (VALUE, "10000"))


async def test_what_our_own_triggers_refuse_is_told_in_their_words(engine: AsyncEngine) -> None:
    with pytest.raises(DatabaseError, match="operation: must be 'add' or 'delete'"):
        await execute(engine, "INSERT INTO mews.voucher_code_outbox (operation) VALUES ('move')")
