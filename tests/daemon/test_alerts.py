"""The daemon tells somebody, without being asked."""

import asyncio
from pathlib import Path

import pytest

from tests.support.daemon import running
from tests.support.mirror import Mirror
from tests.support.receiver import Receiver, receiving

pytestmark = pytest.mark.long


@pytest.fixture
def mirror(database_url: str) -> Mirror:
    """A hotel with a voucher and some codes."""
    mirror = Mirror(database_url)
    mirror.add_codes(mirror.add_voucher(), ["A", "B", "C"])
    return mirror


async def told(receiver: Receiver, event: str, condition: str) -> None:
    """Waits until this was told."""
    number = 0
    while True:
        number += 1
        call = (await receiver.call(number)).json
        if (call["event"], call["condition"]) == (event, condition):
            return


async def test_an_outage_of_the_api_is_told_and_so_is_its_end(mirror: Mirror, tmp_path: Path) -> None:
    async with receiving() as receiver:
        async with mirror.served():
            port = mirror.port
        settings = {"SYNC_ALERT_WEBHOOK_URL": receiver.url}
        async with asyncio.timeout(220), running(mirror, tmp_path, **settings):
            await told(receiver, "raised", "failing")
            async with mirror.served(port=port):
                await told(receiver, "ended", "failing")
    assert [call.json["event"] for call in receiver.calls] == ["raised", "ended"]


async def test_deletes_that_are_held_are_told_with_what_to_do(mirror: Mirror, tmp_path: Path) -> None:
    async with mirror.opened(), receiving() as receiver:
        settings = {"SYNC_ALERT_WEBHOOK_URL": receiver.url, "SYNC_DELETE_BRAKE_MIN": "1"}
        async with asyncio.timeout(120), running(mirror, tmp_path, **settings) as daemon:
            await daemon.event("pulled")
            await mirror.execute(
                "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) "
                "SELECT 'delete', voucher_id, value FROM mews.voucher_codes"
            )
            assert (await daemon.event("held"))["count"] == 3
            await told(receiver, "raised", "changes_held")
    told_last = receiver.calls[-1].json
    assert told_last["changes"][0]["summary"] == "changes held until somebody releases them: 3"
    assert "outbox release" in told_last["what_to_do"]


async def test_the_switch_is_pinged_after_whole_cycles_alone(mirror: Mirror, tmp_path: Path) -> None:
    async with receiving() as receiver:
        async with mirror.served():
            port = mirror.port
        settings = {"SYNC_PING_URL": receiver.url, "SYNC_PING_TOKEN": "the-ping-token"}
        async with asyncio.timeout(120), running(mirror, tmp_path, **settings) as daemon:
            await daemon.event("failing")
            assert receiver.calls == []
            async with mirror.served(port=port):
                call = await receiver.call(2)
    assert call.headers["authorization"] == "Bearer the-ping-token"
