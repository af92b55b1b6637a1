"""What the database undoes and asks to do again is done again: nobody hears of it, and nothing is done twice."""

from datetime import timedelta

import psycopg
import pytest

from sync.demo.simulator import Operation
from sync.service import app
from tests.support.flows import numbered
from tests.support.mirror import Mirror

TABLES = """
SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables
WHERE schemaname IN ('mews', 'sync') AND tablename <> 'alembic_version'
"""
GIVE_WAY = """
CREATE FUNCTION sync.give_way() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF nextval('public.writes_' || TG_RELID) <= 2 THEN
    RAISE EXCEPTION 'somebody else was first' USING ERRCODE = '{sqlstate}';
  END IF;
  RETURN NULL;
END $$
"""
QUEUE = """
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value)
VALUES ('add', :voucher, 'NEW'), ('add', :voucher, 'LATER'), ('delete', :voucher, 'CODE-0')
"""


async def give_way(mirror: Mirror, sqlstate: str) -> None:
    """From now on the first two writes to each table fail, in whatever transaction they are."""
    await mirror.execute(GIVE_WAY.format(sqlstate=sqlstate))
    for table in await mirror.rows(TABLES):
        # A sequence counts what is rolled back, too.
        await mirror.execute(
            f"DO $$ BEGIN EXECUTE 'CREATE SEQUENCE public.writes_' || '{table['name']}'::regclass::oid; END $$"
        )
        await mirror.execute(
            f"CREATE TRIGGER give_way AFTER INSERT OR UPDATE OR DELETE ON {table['name']} "
            "FOR EACH STATEMENT EXECUTE FUNCTION sync.give_way()"
        )


@pytest.mark.long
@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "55P03"])
async def test_each_job_gives_way_to_others_and_is_through_at_its_first_run(mirror: Mirror, sqlstate: str) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, numbered(2500))
    await mirror.execute(QUEUE, voucher=voucher.id)
    await give_way(mirror, sqlstate)
    jobs = app.make_jobs(mirror.connection, mirror.settings(sync_settle_after_s=0.1, sync_lease_s=2))
    assert await jobs.discover() is not None
    report = await jobs.pull_turn()
    assert report is not None
    assert report.caught_up is not None
    pushed = await jobs.outbox.push_all()
    assert (pushed.done, pushed.errors) == (3, {})
    mirror.clock.advance(timedelta(minutes=1))
    await jobs.discover()  # which tells the time
    await jobs.pull()
    await jobs.audit.begin()
    await mirror.beat(jobs)
    await jobs.prune()
    assert jobs.health.errors == []
    assert (await mirror.compare()).is_equal
    assert len(mirror.requests(Operation.ADD_CODES)) == 1


@pytest.mark.long
async def test_a_serializable_transaction_of_a_user_ends_no_page(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    codes = mirror.add_codes(voucher, numbered(3))
    await mirror.once()
    async with await psycopg.AsyncConnection.connect(mirror.database_url) as user:
        await user.set_isolation_level(psycopg.IsolationLevel.SERIALIZABLE)
        await user.execute("SELECT count(*) FROM mews.voucher_codes")
        await user.execute("SELECT count(*) FROM mews.voucher_code_outbox")
        await mirror.execute(QUEUE, voucher=voucher.id)
        await user.execute(
            "INSERT INTO mews.voucher_code_outbox (operation, voucher_code_id) VALUES ('delete', %s)", [codes[1].id]
        )
        mirror.add_codes(voucher, ["FRESH"], days_old=0)
        mirror.clock.advance(timedelta(minutes=1))
        await mirror.once()
    assert (await mirror.compare()).is_equal
