"""Changes of its vouchers that wait for a connection for which nobody works, which a cycle takes too."""

import psycopg
import pytest

from sync.connection.connection import Connection
from sync.demo.simulator import Voucher
from sync.mirror.discover import discover
from sync.outbox import routing
from sync.outbox.each_row import KEPT
from sync.service import app
from tests.support.flows import numbered
from tests.support.mirror import Mirror

QUEUE = """
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) SELECT 'add', %s, unnest(CAST(%s AS text[]))
"""
KEEP = """
CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN NEW.connection := OLD.connection; RETURN NEW; END $$
"""
KEEPS = "CREATE TRIGGER keeps BEFORE UPDATE ON mews.voucher_code_outbox FOR EACH ROW EXECUTE FUNCTION public.keep()"
REMOVE = "UPDATE sync.connections SET removed_at = now() WHERE name = 'default'"


async def left_behind(mirror: Mirror, group: Connection, voucher: Voucher, values: list[str]) -> None:
    """Queues adds in a transaction that stays open while their voucher is taken over."""
    async with await psycopg.AsyncConnection.connect(mirror.database_url) as user:
        await user.execute(QUEUE, [voucher.id, values])
        await mirror.execute(REMOVE)
        await discover(group)
    await group.incarnation.check(group.engine)


async def test_all_of_them_are_taken_however_many_they_are(
    mirror: Mirror, group: Connection, voucher: Voucher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "MAX_UNASSIGNED", 2)
    await left_behind(mirror, group, voucher, numbered(5))
    pushed = await app.make_jobs(group, mirror.settings()).outbox.push_all()
    assert (pushed.done, pushed.errors) == (5, {})


async def test_one_that_a_trigger_leaves_with_its_connection_is_not_taken_again_and_again(
    mirror: Mirror, group: Connection, voucher: Voucher
) -> None:
    await left_behind(mirror, group, voucher, ["KEPT"])
    await mirror.execute(KEEP)
    await mirror.execute(KEEPS)
    pushed = await app.make_jobs(group, mirror.settings()).outbox.push_all()
    assert (pushed.done, pushed.errors) == (0, {})
    assert await mirror.rows("SELECT last_error FROM mews.voucher_code_outbox") == [{"last_error": KEPT}]
