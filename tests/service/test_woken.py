"""A change that is queued wakes those outboxes alone that have something to send."""

from random import Random

from sync.service import app
from sync.service.at_work import Intervals
from sync.service.schedule import Schedule
from tests.mews.helpers import turns
from tests.support.mirror import Mirror

CALL = (
    "INSERT INTO sync.attempts (id, connection, server_utc, until) VALUES (gen_random_uuid(), 'default', now(), now())"
)
QUEUE = "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) SELECT 'add', id, 'A' FROM mews.vouchers"


async def test_an_outbox_that_waits_for_an_answer_is_not_woken_and_one_with_a_change_is(mirror: Mirror) -> None:
    """Of a busy fleet each change would have all of them look for nothing."""
    mirror.add_voucher()
    await mirror.discover()
    await mirror.execute(CALL)
    jobs = app.make_jobs(mirror.connection, mirror.settings())
    schedule = Schedule(jobs.audit.cron, Random(0), Intervals(3600, 3600, 3600))
    schedule.begin(jobs, pulls_first=True)  # its outbox is not begun, so that it stays woken
    await schedule.wake_outboxes()
    await turns(3)
    assert not jobs.outbox.wake.is_set()
    await mirror.execute(QUEUE)
    await schedule.wake_outboxes()
    await turns(3)
    assert jobs.outbox.wake.is_set()
