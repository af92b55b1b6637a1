"""The push of a whole cycle: what it leaves behind is told."""

from typing import Any

import pytest

from sync.core.retry import Backoff
from sync.demo.simulator import Operation
from sync.demo.simulator.faults import Status
from sync.mews.client_settings import RetryPolicy
from sync.service import app
from tests.support.mirror import Mirror
from tests.support.outbox import Outbox


@pytest.mark.long
@pytest.mark.parametrize("is_queued", [True, False])
async def test_what_a_push_leaves_behind_since_the_server_became_another_is_told(
    mirror: Mirror, outbox: Outbox, is_queued: bool
) -> None:
    """As where a database fails over between the pull and the push of a `once`."""
    voucher = mirror.add_voucher()
    await mirror.once()
    async with mirror.connected():
        jobs, incarnation = app.make_jobs(mirror.connection, mirror.settings()), mirror.connection.incarnation
        assert await jobs.discover()
        assert await jobs.pull_turn()
        if is_queued:
            await outbox.add(voucher, "NEW")
        incarnation.known = None  # as where a transaction has found it to be another server
        pushed = await jobs.outbox.push_all()
        assert (list(pushed.errors), mirror.requests(Operation.ADD_CODES)) == (["IncarnationChanged"] * is_queued, [])
        assert await jobs.pull_turn()
        assert not (await jobs.outbox.push_all()).errors
    assert len(mirror.requests(Operation.ADD_CODES)) == is_queued


@pytest.mark.parametrize("is_queued", [True, False])
async def test_what_is_due_when_it_is_told_to_end_before_is_told(
    mirror: Mirror, outbox: Outbox, is_queued: bool
) -> None:
    voucher = mirror.add_voucher()
    await mirror.once()
    if is_queued:
        await outbox.add(voucher, "NEW")
    async with mirror.connected():
        jobs = app.make_jobs(mirror.connection, mirror.settings())
        mirror.stop.set()
        errors = [str(error) for error in (await jobs.outbox.push_all()).errors.values()]
    assert [error.partition(":")[0] for error in errors] == ["it was told to end before all was sent"] * is_queued


@pytest.mark.long
@pytest.mark.parametrize(("number", "left"), [(900, 0), (9001, 8001)])
async def test_what_is_under_way_when_it_is_told_to_end_is_done_and_the_rest_is_told(
    mirror: Mirror, outbox: Outbox, number: int, left: int
) -> None:
    voucher = mirror.add_voucher()
    await mirror.once()
    await outbox.add(voucher, *(f"NEW-{number}" for number in range(number)))

    async def on_request(operation: Operation, _body: Any) -> None:
        if operation is Operation.ADD_CODES:
            mirror.stop.set()

    mirror.simulator.on_request = on_request
    async with mirror.connected():
        jobs = app.make_jobs(mirror.connection, mirror.settings())
        assert await jobs.discover()
        assert await jobs.pull_turn()
        pushed = await jobs.outbox.push_all()
    assert (pushed.done >= number - left, list(pushed.errors)) == (True, ["Stopped"] * bool(left))


SHORT: dict[str, Any] = {"sync_lease_s": 1, "sync_settle_after_s": 0.2}
CLAIMS_ARE_SLOW = (
    "CREATE SEQUENCE public.claims_made",
    """CREATE FUNCTION public.slow_commit() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN PERFORM pg_sleep(0.7) WHERE nextval('public.claims_made') <= TG_ARGV[0]::int; RETURN NULL; END $$""",
    """CREATE CONSTRAINT TRIGGER slow_claims AFTER UPDATE OF status ON mews.voucher_code_outbox
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.status = 'sending') EXECUTE FUNCTION public.slow_commit({})""",
)
"""The commit of the first claims takes so long that a call could outlive its claim: none is made by them."""


@pytest.mark.long
@pytest.mark.parametrize(("slow", "for_s", "errors"), [(1, 20, []), (1000, 0.2, ["Unsent"])], ids=["once", "each time"])
async def test_what_was_claimed_too_late_to_be_sent_is_sent_again_or_told(
    mirror: Mirror, outbox: Outbox, slow: int, for_s: float, errors: list[str]
) -> None:
    """As on a machine that stood still between the claim and the call."""
    settings = SHORT | {"sync_settle_after_s": for_s}
    voucher = mirror.add_voucher()
    await mirror.once()
    await outbox.add(voucher, "NEW")
    for statement in CLAIMS_ARE_SLOW:
        await mirror.execute(statement.format(slow))
    async with mirror.connected(**settings):
        jobs = app.make_jobs(mirror.connection, mirror.settings(**settings))
        assert await jobs.discover()
        assert await jobs.pull_turn()
        pushed = await jobs.outbox.push_all()
    made = [code.value for code in mirror.world.codes.truth.values()]
    assert (list(pushed.errors), pushed.done, made) == (errors, not errors, [] if errors else ["NEW"])


@pytest.mark.long
async def test_what_waits_since_other_calls_fail_is_told(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await mirror.once()
    await outbox.add(voucher, "NEW")
    stays_open = RetryPolicy(backoff=Backoff(base_s=0.001, cap_s=0.01), circuit_backoff=Backoff(base_s=600, cap_s=600))
    async with mirror.connected(retry_policy=stays_open, **SHORT):
        jobs = app.make_jobs(mirror.connection, mirror.settings(**SHORT))
        assert await jobs.discover()
        assert await jobs.pull_turn()
        mirror.simulator.faults.by_chance({Status(503): 1.0}, seed=1)
        while not mirror.connection.client.is_waiting:
            assert await jobs.discover() is None
        pushed = await jobs.outbox.push_all()
    assert (list(pushed.errors), mirror.requests(Operation.ADD_CODES)) == (["Unsent"], [])
