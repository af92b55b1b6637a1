"""A daemon that ends, or a fault of ours, while an event is verified loses none: whoever comes next goes on with it."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from uuid import UUID

import structlog

from sync.fleet.registry import StoredConnection
from sync.service.integrations import work_off_all
from tests.fleet.webhooks.vendor import Vendor, state


async def test_an_event_that_a_stop_cuts_short_is_verified_by_whoever_comes_next(vendor: Vendor, hotel: str) -> None:
    mirror = vendor.mirror
    await vendor.created(hotel)
    mirror.stop.set()
    async with asyncio.timeout(10):
        await work_off_all(vendor.receiver, asyncio.Event())
    assert await vendor.rows("finished_at IS NULL AND attempts = 0 AND next_attempt_at <= now()") == [
        "IntegrationCreated"
    ]
    mirror.stop.clear()
    await vendor.work_off_all()
    assert await vendor.states() == [state()]


async def test_a_fault_of_ours_in_one_event_ends_no_other(vendor: Vendor, hotel: str) -> None:
    async def ask(access_token: str, stored: StoredConnection | None) -> frozenset[UUID]:
        if access_token == "odd":
            raise KeyError(access_token)
        done.set()
        return await vendor.receiver.ask(access_token, stored)

    done, wake = asyncio.Event(), asyncio.Event()
    await vendor.created("odd", "Hotel C", "i-2")
    with structlog.testing.capture_logs() as logs:
        working = asyncio.create_task(work_off_all(replace(vendor.receiver, ask=ask), wake, pause_s=0.0))
        while not (logs or working.done()):
            await asyncio.wait([working], timeout=0.01)
        await vendor.created(hotel)
        wake.set()
        async with asyncio.timeout(10):
            await done.wait()
            while await vendor.rows("finished_at IS NULL") != ["IntegrationCreated"]:
                await asyncio.wait([working], timeout=0.01)
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
    assert [line["job"] for line in logs if line["event"] == "defect"] == ["integration_events"]
    assert await vendor.states() == [state()]
    assert await vendor.rows("finished_at IS NULL AND attempts = 1") == ["IntegrationCreated"]
