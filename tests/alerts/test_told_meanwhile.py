"""What was told while the database could not be asked is known once it can, so that its end is told too, and once."""

import asyncio

import pytest
from sqlalchemy import text

from sync.alerts import run
from sync.alerts.conditions import LASTS_S
from sync.postgres.engine import transaction
from tests.alerts.helpers import Time, alerting, hold_one, set_state, told
from tests.support.mirror import Mirror
from tests.support.outbox import Outbox
from tests.support.receiver import Receiver

REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$
"""
WHERE = """
CREATE TRIGGER refuse BEFORE UPDATE ON sync.alerts FOR EACH ROW
WHEN (NEW.kind = 'changes_held' AND NEW.told_level > OLD.told_level) EXECUTE FUNCTION refuse()
"""
REJECTED = """
INSERT INTO sync.rejected_records (connection, digest, kind, reason, raw) VALUES ('default', 'x', 'k', 'why', '{}')
"""


async def test_what_was_told_just_before_the_database_is_back_is_told_to_be_over(
    mirror: Mirror, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LOOK_TAKES_S", 0.5)
    await set_state(mirror, None)
    time = Time()
    async with alerting(mirror.database_url, receiver, time) as alerter:
        async with transaction(mirror.connection.engine) as tx:
            await tx.execute(text("LOCK TABLE sync.alerts"))
            looking = asyncio.create_task(alerter.look())
            await asyncio.sleep(0)  # it has begun
            time.now_s += LASTS_S
            await looking
            looking = asyncio.create_task(alerter.look())
            await receiver.call(1)
        await looking  # the database takes what is noted behind the call
        monkeypatch.undo()
        for _ in range(3):
            time.now_s += LASTS_S
            await alerter.look()
    assert told(receiver) == [("raised", "failing"), ("ended", "failing")]


async def test_what_could_not_be_noted_as_told_is_not_forgotten_for_what_could(
    mirror: Mirror, outbox: Outbox, receiver: Receiver
) -> None:
    await hold_one(mirror, outbox)
    for statement in (REFUSE, WHERE, REJECTED):
        await mirror.execute(statement)
    async with alerting(mirror.database_url, receiver, Time()) as alerter:
        await alerter.look()
        assert sorted(told(receiver)) == [("raised", "changes_held"), ("raised", "records_rejected")]
        await mirror.execute("DROP TRIGGER refuse ON sync.alerts")
        await mirror.execute("UPDATE sync.alerts SET claimed_until = NULL")  # a minute later
        await alerter.look()
    assert len(told(receiver)) == 2
