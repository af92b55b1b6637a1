"""A token is revoked for a while: nothing is given up, the API is left in peace, and both directions go on after it."""

import time
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from sync.connection.tenure import now_s
from sync.demo.simulator import Operation
from tests.outages.helpers import (
    ALL_OVER,
    ended,
    pass_time,
    pushing,
    queue_add,
    queue_delete_by_id,
    round_of,
    statuses,
    told,
    until,
)
from tests.support.flows import honest, numbered
from tests.support.mirror import ACCESS_TOKEN, Mirror
from tests.support.outbox import active

HOURS = 6
ATTEMPTS = "mews.voucher_code_outbox_attempts"
AN_HOUR = timedelta(hours=1)


class StopWatch:
    """The monotonic clock, shifted."""

    def __init__(self) -> None:
        self.shift_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.shift_s


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> StopWatch:
    """What a push tells its pauses by."""
    watch = StopWatch()
    for module in ("push", "send"):
        monkeypatch.setattr(f"sync.outbox.{module}.time", watch)
    for module in ("claimer", "send"):
        monkeypatch.setattr(f"sync.outbox.{module}.now_s", lambda: now_s() + watch.shift_s)
    return watch


@pytest.mark.long
async def test_a_revoked_token_stops_both_directions_until_it_is_restored(
    mirror: Mirror, tmp_path: Path, watch: StopWatch
) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, numbered(10))
    token = mirror.world.tokens[ACCESS_TOKEN]
    async with pushing(mirror) as jobs:
        await round_of(mirror, jobs)
        mirror.world.revoke(ACCESS_TOKEN)
        before = len(mirror.simulator.requests)
        for hour in range(HOURS):
            await pass_time(mirror, AN_HOUR)
            watch.shift_s += AN_HOUR.total_seconds()
            mirror.world.add_codes(voucher.id, [f"THEIRS-{hour}"])
            await queue_add(mirror, voucher, *numbered(3, f"OURS-{hour}"))
            await round_of(mirror, jobs)
            await until(
                mirror, f"(SELECT count(DISTINCT attempt_id) FROM {ATTEMPTS} WHERE http_status = 401) = {hour} + 1"
            )
            assert set(await statuses(mirror)) == {"pending"}
        assert len(await mirror.rows(f"SELECT FROM {ATTEMPTS}")) <= 3 + HOURS - 1
        assert len(mirror.requests(Operation.ADD_CODES)) == HOURS
        assert len(mirror.simulator.requests) - before <= 10 * HOURS
        text, one, checked = await told(mirror, tmp_path)
        assert (text.code, checked.code, one["outbox"]) == (1, 1, {"pending": 3 * HOURS})
        assert "not authorised (401)" in text.stdout
        mirror.world.tokens[ACCESS_TOKEN] = token
        watch.shift_s += AN_HOUR.total_seconds()
        await ended(mirror, jobs)
        await pass_time(mirror, ALL_OVER)
        await round_of(mirror, jobs)
        assert set(await statuses(mirror)) == {"done"}
        assert set(active(mirror).values()) == {1}
        assert ((await mirror.compare()).is_equal, await honest(mirror), jobs.health.errors) == (True, [], [])
        assert await mirror.rows("SELECT state FROM sync.connections") == [{"state": "ok"}]


@pytest.mark.long
@pytest.mark.parametrize("is_revoked", [False, True])
async def test_a_change_that_waits_for_a_pull_does_not_spend_the_whole_budget_on_pulls(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, is_revoked: bool
) -> None:
    for pause in ("REFRESH_AGAIN_S", "AFTER_FAILED_REFRESH_S"):
        monkeypatch.setattr(f"sync.service.outbox_worker.{pause}", 3600.0)
    mirror.add_voucher()
    async with pushing(mirror) as jobs:
        await round_of(mirror, jobs)
        if is_revoked:
            mirror.world.revoke(ACCESS_TOKEN)
        await queue_delete_by_id(mirror, uuid4())
        before = len(mirror.simulator.requests)
        for _ in range(30):
            jobs.outbox.wake.set()
            await mirror.rows("SELECT pg_sleep(0.02)")
        assert len(mirror.simulator.requests) - before == 1
        assert await statuses(mirror) == ["pending"]
