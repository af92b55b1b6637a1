"""Deletes that are noted as one connection's while their voucher is another's: they count among that one's codes."""

import pytest

from sync.connection.connection import Connection
from sync.demo.simulator import Voucher
from sync.outbox import delete_guard
from tests.mirror.test_late_changes import push_all, queue_late, stand
from tests.support.mirror import Mirror
from tests.support.outbox import A_WHILE, Outbox

TOGETHER = """
SELECT max(written.number) AS number
FROM (SELECT count(*) AS number FROM mews.voucher_code_outbox GROUP BY xmin) AS written
"""


async def test_deletes_of_what_is_another_s_are_held_by_its_codes_alone(
    mirror: Mirror, group: Connection, voucher: Voucher, outbox: Outbox
) -> None:
    """The connection that they are noted for has few codes left, of which so many would be suspicious."""
    await hand_on_late(mirror, group, voucher, outbox, codes=1000, deletes=110)
    assert await push_all(mirror, group) == (110, 0)


async def test_more_late_deletes_than_a_transaction_takes_go_in_several(
    mirror: Mirror, group: Connection, voucher: Voucher, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delete_guard, "HELD_AT_ONCE", 60)
    await hand_on_late(mirror, group, voucher, outbox, codes=2000, deletes=200)
    assert await mirror.rows(TOGETHER) == [{"number": 60}]
    assert await push_all(mirror, group) == (200, 0)


async def hand_on_late(
    mirror: Mirror, group: Connection, voucher: Voucher, outbox: Outbox, *, codes: int, deletes: int
) -> None:
    """Queues so many deletes before their voucher moves; whoever pushes them hands all on."""
    mirror.add_codes(voucher, [f"C{number}" for number in range(codes)], days_old=0)
    mirror.clock.advance(A_WHILE)
    await outbox.refresh()
    await queue_late(mirror, group, voucher, [("delete", f"C{number}") for number in range(deletes)])
    report = await outbox.pusher.push()
    assert (report.held, report.failed) == (0, 0)
    assert set(await stand(mirror)) == {("pending", "group")}
