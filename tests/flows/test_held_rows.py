"""Changes whose rows a user holds in an open transaction are not sent, and are told with who holds them."""

import psycopg

from sync import app
from tests.support.mirror import Mirror

QUEUE = (
    "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', :id, 'A'), ('add', :id, 'B')"
)


async def test_a_cycle_that_leaves_changes_to_their_holder_did_not_succeed(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    await mirror.once()
    await mirror.execute(QUEUE, id=voucher.id)
    jobs = app.make_jobs(mirror.connection, mirror.settings(sync_settle_after_s=0.1, sync_lease_s=2))
    async with await psycopg.AsyncConnection.connect(mirror.database_url) as user:
        await user.execute("SELECT FROM mews.voucher_code_outbox WHERE value = 'A' FOR UPDATE")
        pushed = await jobs.outbox.push_all()
        told = str(pushed.errors["DatabaseLocked"])
        assert (pushed.done, len(pushed.errors)) == (1, 1)
        assert told.startswith("1 changes are due, and not sent: another transaction holds their rows. Held by pid ")
        assert f"pg_terminate_backend({user.info.backend_pid})" in told
    pushed = await jobs.outbox.push_all()
    assert (pushed.done, pushed.errors) == (1, {})
