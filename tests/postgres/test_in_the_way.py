"""A lock that was waited for in vain is told with who holds it, so that somebody can let it go."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.core.errors import DatabaseLocked
from sync.outbox.claims import as_daemon
from sync.postgres import engine as module
from sync.postgres import session
from sync.postgres.engine import in_transaction, make_engine, transaction
from tests.support.database import blocked, code, store
from tests.support.hostile import new_owner

WRITE = text("UPDATE mews.voucher_codes SET mirrored_at = now()")
READ = text("SELECT count(*) FROM mews.voucher_codes")

User = psycopg.AsyncConnection


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(session.SETTINGS, "lock_timeout", "'300ms'")
    monkeypatch.setattr("sync.postgres.engine.AGAIN_FOR_S", 0.0)


@pytest.fixture
async def user(database_url: str) -> AsyncIterator[User]:
    """Somebody else's session, in a transaction."""
    async with await User.connect(make_conninfo(database_url, application_name="psql")) as session:
        yield session


def held_by(user: User, on: str = "mews.voucher_codes") -> str:
    """What is told of a session that idles in its transaction."""
    pid, name = user.info.backend_pid, user.info.user
    return rf"Held by pid {pid} \(user {name}, application psql, idle in transaction since \d{{4}}-.* UTC\), on {on}"


@pytest.mark.parametrize("mode", ["ACCESS EXCLUSIVE", "EXCLUSIVE", "SHARE"])
async def test_who_locked_the_table_is_told_and_how_to_end_that(engine: AsyncEngine, user: User, mode: str) -> None:
    await user.execute(f"LOCK TABLE mews.voucher_codes IN {mode} MODE".encode())
    words = rf"55P03.*{held_by(user)}\. Let that end, by SELECT pg_terminate_backend\({user.info.backend_pid}\)"
    with pytest.raises(DatabaseLocked, match=words):
        await in_transaction(engine, lambda tx: tx.execute(WRITE))


async def test_so_is_who_holds_one_row(engine: AsyncEngine, user: User) -> None:
    await store(engine, code(1))
    await user.execute("SELECT FROM mews.voucher_codes FOR UPDATE")
    with pytest.raises(DatabaseLocked, match=held_by(user)):
        await in_transaction(engine, lambda tx: tx.execute(WRITE))


async def test_so_is_a_prepared_transaction_which_belongs_to_no_session(engine: AsyncEngine, user: User) -> None:
    (limit,) = await (await user.execute("SELECT current_setting('max_prepared_transactions')::int")).fetchone() or (0,)
    if not limit:
        pytest.skip("this server prepares no transactions")
    await user.execute("LOCK TABLE mews.voucher_codes; PREPARE TRANSACTION 'theirs'")
    with pytest.raises(
        DatabaseLocked, match=r"Held by a prepared transaction, on mews.voucher_codes \(see pg_prepared"
    ):
        await in_transaction(engine, lambda tx: tx.execute(WRITE))
    await user.rollback()
    await user.set_autocommit(True)
    await user.execute("ROLLBACK PREPARED 'theirs'")


async def test_the_outbox_tells_it_too(engine: AsyncEngine, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync.outbox.claims._BECOME_DAEMON", "SET LOCAL lock_timeout = '300ms'")
    await user.execute("LOCK TABLE mews.voucher_code_outbox")
    with pytest.raises(DatabaseLocked, match=held_by(user, "mews.voucher_code_outbox")):
        async with as_daemon(engine) as tx:
            await tx.execute(text("SELECT count(*) FROM mews.voucher_code_outbox"))


async def test_a_question_that_waits_as_status_does_tells_it(engine: AsyncEngine, user: User) -> None:
    await user.execute("LOCK TABLE mews.voucher_codes")
    with pytest.raises(DatabaseLocked, match=held_by(user)):
        async with transaction(engine) as tx:
            await tx.execute(READ)


async def test_who_only_reads_is_not_accused(engine: AsyncEngine, user: User, database_url: str) -> None:
    await user.execute("LOCK TABLE mews.voucher_codes IN SHARE MODE")
    async with await User.connect(database_url) as reader:
        await reader.execute("SELECT count(*) FROM mews.voucher_codes")
        with pytest.raises(DatabaseLocked, match=held_by(user)) as found:
            await in_transaction(engine, lambda tx: tx.execute(WRITE))
        assert f"pid {reader.info.backend_pid} " not in str(found.value)


async def test_a_reader_for_whom_a_change_of_the_table_waits_is(
    engine: AsyncEngine, user: User, database_url: str
) -> None:
    await user.execute("SELECT count(*) FROM mews.voucher_codes")
    async with await User.connect(database_url) as admin:
        change = asyncio.create_task(admin.execute("ALTER TABLE mews.voucher_codes ADD own text"))
        await blocked(engine, change)
        with pytest.raises(DatabaseLocked) as found:
            await in_transaction(engine, lambda tx: tx.execute(WRITE))
        pids = {user.info.backend_pid, admin.info.backend_pid}
        assert all(f"pid {pid} (user" in str(found.value) for pid in pids)
        await user.rollback()
        await change


async def test_who_waits_beside_us_is_not_accused(engine: AsyncEngine, user: User, database_url: str) -> None:
    await user.execute("LOCK TABLE mews.voucher_codes")
    async with await User.connect(database_url) as other:
        await other.execute("LOCK TABLE mews.vouchers IN ROW EXCLUSIVE MODE")
        waits = asyncio.create_task(other.execute("DELETE FROM mews.voucher_codes"))
        await blocked(engine, waits)
        with pytest.raises(DatabaseLocked, match=held_by(user)) as found:
            await in_transaction(engine, lambda tx: tx.execute(WRITE))
        assert f"pid {other.info.backend_pid} " not in str(found.value)
        await user.rollback()
        await waits


async def test_an_owner_who_may_not_see_all_of_others_is_told_what_he_may(database_url: str, user: User) -> None:
    with new_owner(database_url) as url:
        name = psycopg.conninfo.conninfo_to_dict(url)["user"]
        await user.execute(
            f'GRANT USAGE ON SCHEMA mews TO "{name}"; GRANT SELECT ON mews.voucher_codes TO "{name}"'.encode()
        )
        await user.commit()
        await user.execute("LOCK TABLE mews.voucher_codes")
        engine = make_engine(url)
        words = (
            rf"Held by pid {user.info.backend_pid} \(user {user.info.user}, application psql\), on mews.voucher_codes"
        )
        with pytest.raises(DatabaseLocked, match=words):
            await in_transaction(engine, lambda tx: tx.execute(READ))
        await engine.dispose()
        await user.rollback()


async def test_where_nobody_can_be_asked_the_lock_itself_is_told(
    engine: AsyncEngine, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ASK_FOR_S", 0.0)
    await user.execute("LOCK TABLE mews.voucher_codes")
    with pytest.raises(DatabaseLocked, match="see pg_stat_activity") as found:
        await in_transaction(engine, lambda tx: tx.execute(WRITE))
    assert "Held by" not in str(found.value)
