"""Two connections that see the same codes mirror them once; what one leaves, the other takes over."""

import asyncio
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from sync.connection.connection import Connection
from sync.core.errors import StatementRefused, VoucherSyncError
from sync.demo.simulator import Close, Operation, Status, Voucher
from sync.fleet import changes
from sync.fleet.purge import purge
from sync.mirror.discover import discover
from sync.mirror.pull import PullSettings, pull
from sync.mirror.quiet import QuietPulls, mirror_look
from sync.mirror.quiet_discovery import Discoveries
from sync.outbox.claims import as_daemon
from sync.outbox.uncertain import NOT_SHOWN
from sync.outbox.unfinished import load_unfinished
from sync.postgres.engine import in_transaction
from sync.postgres.session import LOCK_TIMEOUT_S
from sync.service import app
from tests.support.database import PATIENCE_S
from tests.support.hostile import FREEZE, FROZEN
from tests.support.mirror import OVERLAP, Mirror
from tests.support.outbox import A_WHILE, Outbox, look_again

WHOSE = "SELECT DISTINCT connection FROM mews.{} ORDER BY 1"
ENDED = """
UPDATE mews.voucher_code_outbox
SET status = 'failed', attempt_id = NULL, finished_at = now(), last_error = 'an error'
"""
LOST = """
WITH attempt AS (
  INSERT INTO sync.attempts (id, connection, until, server_utc) VALUES (gen_random_uuid(), 'default', now(), now())
  RETURNING id)
UPDATE mews.voucher_code_outbox SET status = 'sending', attempts = 1, attempt_id = attempt.id FROM attempt
"""
TABLES = ("voucher_codes", "vouchers", "services", "enterprises")


async def once(connection: Connection) -> None:
    await discover(connection)
    report = await pull(connection, PullSettings(OVERLAP))
    assert not report.errors


async def whose(mirror: Mirror) -> dict[str, list[str]]:
    return {name: [row["connection"] for row in await mirror.rows(WHOSE.format(name))] for name in TABLES}


async def leave(mirror: Mirror, how: str) -> None:
    if how == "unlisted":
        await mirror.execute(
            "INSERT INTO sync.skipped (connection, id, kind, reason) "
            "SELECT 'default', id, 'voucher', 'vouchers/getAll no longer lists it' FROM mews.vouchers"
        )
    else:
        await mirror.execute(f"UPDATE sync.connections SET {how}_at = now() WHERE name = 'default'")


@pytest.mark.long
async def test_what_one_mirrors_the_other_leaves_alone(mirror: Mirror, group: Connection) -> None:
    before = await mirror.rows("SELECT * FROM mews.voucher_codes ORDER BY id")
    for _ in range(2):
        await once(group)
        await mirror.once()
    assert await mirror.rows("SELECT * FROM mews.voucher_codes ORDER BY id") == before
    assert (await whose(mirror))["vouchers"] == ["default"]


async def test_a_foreign_key_of_a_user_s_in_an_open_transaction_is_not_waited_for(
    mirror: Mirror, group: Connection, voucher: Voucher
) -> None:
    await mirror.execute("CREATE TABLE public.campaigns (voucher_id uuid REFERENCES mews.vouchers)")
    await leave(mirror, "paused")
    with psycopg.connect(mirror.database_url) as user:
        user.execute("INSERT INTO public.campaigns VALUES (%s)", [voucher.id])
        async with asyncio.timeout(LOCK_TIMEOUT_S / 2):
            await once(group)
        assert (await whose(mirror))["vouchers"] == ["group"]


@pytest.mark.parametrize("how", ["paused", "removed", "unlisted"])
async def test_what_one_has_left_the_other_takes_over_and_reads_on(
    mirror: Mirror, group: Connection, voucher: Voucher, how: str
) -> None:
    await leave(mirror, how)
    mirror.add_codes(voucher, ["D"], days_old=0)
    mirror.clock.advance(OVERLAP)
    await once(group)
    owners = await whose(mirror)
    assert owners["voucher_codes"] == owners["vouchers"] == ["group"]
    assert (await mirror.compare()).is_equal
    assert await mirror.rows("SELECT DISTINCT changed FROM mews.voucher_code_versions") == []


async def test_quiet_pulls_of_the_new_one_do_not_count_for_what_it_took_over(mirror: Mirror, group: Connection) -> None:
    await leave(mirror, "removed")
    await mirror.execute(
        "UPDATE sync.connections SET caught_up_as_of = now(), caught_up_through = now() WHERE name = 'group'"
    )
    before = await mirror.rows("SELECT complete_through FROM sync.watermarks")
    await discover(group)
    assert await mirror.rows("SELECT complete_through FROM mews.coverage") == before


@pytest.mark.long
async def test_queued_changes_go_with_their_voucher(mirror: Mirror, group: Connection, voucher: Voucher) -> None:
    queue = "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', :voucher_id, :value)"
    for value in ("NEW", "NEWER"):
        await mirror.execute(queue, voucher_id=voucher.id, value=value)
    await leave(mirror, "paused")
    await discover(group)
    rows: list[dict[str, Any]] = await mirror.rows("SELECT connection, status FROM mews.voucher_code_outbox")
    assert rows == [{"connection": "group", "status": "pending"}] * 2
    pushed = await app.make_jobs(group, mirror.settings()).outbox.push_all()
    assert (pushed.done, pushed.errors) == (2, {})
    assert {record.token for record in mirror.requests(Operation.ADD_CODES)} == {"group"}


async def test_what_became_of_a_lost_answer_is_looked_up_by_whoever_has_its_voucher(
    mirror: Mirror, group: Connection, voucher: Voucher
) -> None:
    await mirror.execute(
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', :voucher_id, 'NEW')",
        voucher_id=voucher.id,
    )
    async with as_daemon(group.engine) as tx:
        await tx.execute(text(LOST))
        await tx.execute(
            text("UPDATE mews.voucher_code_outbox SET status = 'uncertain', uncertain_because = 'expired'")
        )
    await leave(mirror, "paused")
    await discover(group)
    async with as_daemon(group.engine) as tx:
        assert (await load_unfinished(tx)).concerns("group")


@pytest.mark.parametrize("by", ["poll", "cycle"])
@pytest.mark.parametrize("how", ["paused", "removed"])
async def test_what_is_queued_by_a_transaction_that_began_before_goes_with_its_voucher(
    mirror: Mirror, group: Connection, voucher: Voucher, how: str, by: str
) -> None:
    async with await psycopg.AsyncConnection.connect(mirror.database_url) as user:
        queue = "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', %s, 'NEW')"
        await user.execute(queue, [voucher.id])
        await leave(mirror, how)
        await discover(group)
    jobs = app.make_jobs(group, mirror.settings())
    await group.incarnation.check(group.engine)
    if by == "poll":
        await jobs.polls.find_earlier()
        assert await mirror.rows("SELECT connection FROM mews.voucher_code_outbox") == [{"connection": "group"}]
    pushed = await jobs.outbox.push_all()
    assert (pushed.done, pushed.errors) == (1, {})


async def send(mirror: Mirror, group: Connection, voucher: Voucher) -> None:
    """A change of the voucher is being sent."""
    await mirror.execute(
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', :voucher_id, 'NEW')",
        voucher_id=voucher.id,
    )
    async with as_daemon(group.engine) as tx:
        await tx.execute(text("UPDATE mews.voucher_code_outbox SET status = 'sending', attempt_id = gen_random_uuid()"))


@pytest.mark.long
async def test_a_voucher_of_which_a_change_is_being_sent_stays_until_that_is_done(
    mirror: Mirror, group: Connection, voucher: Voucher
) -> None:
    await send(mirror, group, voucher)
    look = mirror_look(group.engine)
    discoveries = Discoveries(group, look, QuietPulls(group, look))
    await leave(mirror, "paused")
    for _ in range(3):  # of which the later ones find all as the one before
        await discoveries.discover()
        assert (await whose(mirror))["vouchers"] == ["default"]
    async with as_daemon(group.engine) as tx:
        await tx.execute(text(ENDED))
    await discoveries.discover()
    assert (await whose(mirror))["vouchers"] == ["group"]


async def test_what_became_of_a_change_is_looked_up_by_who_takes_its_voucher_over(
    mirror: Mirror, group: Connection, voucher: Voucher, outbox: Outbox
) -> None:
    await outbox.refresh()
    await outbox.add(voucher, "NEW")
    mirror.simulator.faults.script(Operation.ADD_CODES, Close(processed=True))
    await outbox.pusher.push()
    assert await outbox.statuses() == ["uncertain"]
    jobs = app.make_jobs(group, mirror.settings(sync_settle_after_s=0.001))
    await jobs.polls.look_up()  # what is looked at once an hour
    await leave(mirror, "paused")
    await discover(group)
    mirror.clock.advance(A_WHILE)
    await outbox.be_due()
    await jobs.polls.look_up()
    assert await outbox.statuses() == ["done"]
    assert await mirror.rows("SELECT outcome FROM mews.voucher_code_outbox_attempts") == [{"outcome": "done"}], (
        "it was sent once"
    )


async def test_a_refused_change_fails_with_the_api_s_words_by_who_takes_its_voucher_over(
    mirror: Mirror, group: Connection, voucher: Voucher, outbox: Outbox
) -> None:
    """An answer was lost before; and the one that it was refused by saw its voucher no more."""
    await outbox.refresh()
    await outbox.add(voucher, "NEW")
    mirror.simulator.faults.script(Operation.ADD_CODES, Close(processed=False), Status(403))
    await outbox.pusher.push()
    await look_again(mirror, outbox)
    await outbox.pusher.push()
    jobs = app.make_jobs(group, mirror.settings(sync_settle_after_s=0.001))
    await jobs.polls.look_up()
    hidden = mirror.world.vouchers.pop(voucher.id)
    await look_again(mirror, outbox)
    assert [(row["status"], row["last_error"]) for row in await outbox.rows()] == [("uncertain", NOT_SHOWN)]
    await leave(mirror, "paused")
    mirror.world.vouchers[voucher.id] = hidden
    await discover(group)
    await outbox.be_due()
    await jobs.polls.look_up()
    assert [(row["status"], row["last_error"]) for row in await outbox.rows()] == [("failed", "Simulated fault")]


async def test_a_voucher_that_something_refuses_keeps_no_other_from_being_taken_over(
    mirror: Mirror, group: Connection, voucher: Voucher
) -> None:
    other = mirror.add_voucher("Other")
    mirror.add_codes(other, ["D"])
    await mirror.once()
    await mirror.execute("ALTER TABLE mews.voucher_codes ADD CONSTRAINT own CHECK (value <> 'B') NOT VALID")
    await leave(mirror, "removed")
    with pytest.raises(StatementRefused, match=r"constraint own of mews\.voucher_codes"):
        await discover(group)
    assert await mirror.rows("SELECT id FROM mews.vouchers WHERE connection = 'group'") == [{"id": other.id}]
    await mirror.execute("ALTER TABLE mews.voucher_codes DROP CONSTRAINT own")
    await discover(group)
    assert await whose(mirror) == {name: ["group"] for name in TABLES}


async def test_what_had_failed_before_a_purge_is_retried_by_whoever_sees_the_hotel_then(
    mirror: Mirror, group: Connection, voucher: Voucher
) -> None:
    await send(mirror, group, voucher)
    async with as_daemon(group.engine) as tx:
        await tx.execute(text(ENDED))
    await in_transaction(group.engine, lambda tx: changes.remove(tx, "default"))
    await purge(group.engine, "default")
    await once(group)
    await mirror.execute("UPDATE mews.voucher_code_outbox SET status = 'pending'")
    pushed = await app.make_jobs(group, mirror.settings()).outbox.push_all()
    assert (pushed.done, pushed.errors) == (1, {})


async def test_a_purge_ends_although_a_trigger_leaves_what_had_failed_as_it_is(
    mirror: Mirror, group: Connection, voucher: Voucher
) -> None:
    await send(mirror, group, voucher)
    async with as_daemon(group.engine) as tx:
        await tx.execute(text(ENDED))
    await mirror.execute(FREEZE)
    await mirror.execute(FROZEN.format("mews.voucher_code_outbox"))
    await in_transaction(group.engine, lambda tx: changes.remove(tx, "default"))
    async with asyncio.timeout(PATIENCE_S):
        await purge(group.engine, "default")
    assert await mirror.rows("SELECT connection FROM mews.voucher_code_outbox") == [{"connection": "default"}]


async def test_a_connection_with_changes_that_are_not_finished_is_not_removed(
    mirror: Mirror, group: Connection, voucher: Voucher
) -> None:
    await mirror.execute(
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', :voucher_id, 'NEW')",
        voucher_id=voucher.id,
    )
    with pytest.raises(VoucherSyncError, match=r"connection default: .*\(1 pending\)"):
        await in_transaction(group.engine, lambda tx: changes.remove(tx, "default"))


@pytest.mark.long
async def test_a_purge_leaves_what_another_connection_sees(mirror: Mirror, group: Connection) -> None:
    await once(group)
    await in_transaction(group.engine, lambda tx: changes.remove(tx, "default"))
    assert await purge(group.engine, "default") == 0
    await once(group)
    assert await whose(mirror) == {name: ["group"] for name in TABLES}
    assert (await mirror.compare()).is_equal
    await in_transaction(group.engine, lambda tx: changes.remove(tx, "group"))
    assert await purge(group.engine, "group") == 3
    assert await whose(mirror) == {name: [] for name in TABLES}
    assert await purge(group.engine, "default") == 0
    assert await mirror.rows("SELECT name FROM sync.connections") == []
