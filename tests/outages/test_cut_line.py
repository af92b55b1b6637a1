"""The line to the database is cut while a claim or completion is committed: sent once, whatever the commit came to."""

import pytest

from sync.demo.simulator import Operation
from tests.outages.helpers import ALL_OVER, ended, pass_time, pushing, queue_add, round_of, statuses
from tests.support.mirror import Mirror
from tests.support.outbox import active
from tests.support.proxy import Proxy

CLAIM = b"SET status = 'sending'"
COMPLETION = b"WITH free AS"


@pytest.mark.long
@pytest.mark.parametrize("statement", [CLAIM, COMPLETION])
@pytest.mark.parametrize("is_answered", [False, True])
async def test_a_commit_whose_answer_is_lost_sends_nothing_twice(
    database_url: str, statement: bytes, is_answered: bool
) -> None:
    async with Proxy(database_url).served() as proxy:
        mirror = Mirror(proxy.url)
        voucher = mirror.add_voucher()
        # Whatever is sent twice is added twice, and shows.
        mirror.simulator.behaviour.allow_duplicates = True
        async with mirror.opened(), pushing(mirror) as jobs:
            await round_of(mirror, jobs)
            proxy.cut_at_commit(statement, is_answered=is_answered)
            await queue_add(mirror, voucher, "A")
            jobs.outbox.wake.set()
            await proxy.was_cut.wait()
            await ended(mirror, jobs)
            await pass_time(mirror, ALL_OVER)
            await round_of(mirror, jobs)
            assert (await statuses(mirror), active(mirror)) == (["done"], {(voucher.id, "A"): 1})
            assert len(mirror.requests(Operation.ADD_CODES)) == 1
            assert ((await mirror.compare()).is_equal, jobs.health.errors) == (True, [])
            assert await mirror.rows("SELECT FROM sync.attempts") == []
        assert mirror.simulator.violations == []
