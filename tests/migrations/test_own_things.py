"""What users have put on our tables, or forbid, and a migration meets: it is named, and nothing is half done."""

import psycopg
import pytest

from sync.core.errors import DatabaseError, NotAllowed
from sync.postgres.migrations import migrate, revisions
from tests.migrations.helpers import upgrade
from tests.support.users import login

BEFORE = "0006"
IN_THE_WAY = {
    "a column by a name of ours": (
        "ALTER TABLE mews.voucher_code_outbox ADD COLUMN priority int",
        'column "priority" of relation "voucher_code_outbox" already exists',
    ),
    "a foreign key to a key of ours": (
        "CREATE TABLE public.orders (key text REFERENCES mews.voucher_code_outbox (idempotency_key))",
        "constraint orders_key_fkey on table orders depends on",
    ),
    "a trigger on whatever changes tables": (
        "CREATE FUNCTION public.no() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$; "
        "CREATE EVENT TRIGGER never ON ddl_command_start EXECUTE FUNCTION public.no()",
        "RaiseException in function no",
    ),
}


@pytest.mark.sampled
@pytest.mark.parametrize(("statement", "words"), IN_THE_WAY.values(), ids=IN_THE_WAY.keys())
def test_what_is_in_the_way_is_named_with_the_next_step(empty_database_url: str, statement: str, words: str) -> None:
    upgrade(empty_database_url, BEFORE)
    with psycopg.connect(empty_database_url, autocommit=True) as user:
        user.execute(statement.encode())
    with pytest.raises(DatabaseError) as caught:
        migrate(empty_database_url)
    assert str(caught.value).startswith("nothing was migrated: the database refused a statement (")
    assert words in str(caught.value)
    assert str(caught.value).endswith("rename or drop it, then run `voucher-sync migrate` again")
    assert revisions(empty_database_url)[0] == BEFORE


@pytest.mark.long
def test_what_only_looks_at_our_tables_is_in_nobody_s_way(empty_database_url: str) -> None:
    upgrade(empty_database_url, BEFORE)
    with psycopg.connect(empty_database_url, autocommit=True) as user:
        for statement in (
            b"CREATE MATERIALIZED VIEW public.codes AS SELECT * FROM mews.active_voucher_codes",
            b"CREATE VIEW public.changes AS SELECT * FROM mews.voucher_code_outbox",
            b"CREATE VIEW public.each AS SELECT id, value, count(*) FROM mews.voucher_code_outbox GROUP BY id",
            b"CREATE VIEW public.how_far AS SELECT complete_through, lag_seconds FROM mews.connection_coverage",
            b"CREATE TABLE public.archive () INHERITS (mews.voucher_code_outbox)",
            b"CREATE PUBLICATION users FOR TABLE mews.voucher_codes, mews.voucher_code_outbox",
        ):
            user.execute(statement)
        migrate(empty_database_url)
        for view in (b"codes", b"changes", b"each", b"how_far"):
            user.execute(b"SELECT * FROM public." + view)


def test_a_user_who_owns_nothing_here_is_told_who_must_migrate(database_url: str) -> None:
    with login(database_url) as url, pytest.raises(NotAllowed) as caught:
        migrate(url)
    assert str(caught.value) == (
        "this user of the database may not do that (42501): permission denied for schema sync; let DATABASE_URL name "
        "the user that owns the schemas mews and sync, or is to make them"
    )
