"""A record that could not be read is kept until an audit reads it: what is told of it ends then."""

import pytest

from sync.audit.run import audit
from sync.demo.simulator import Code, Operation, RawBody
from tests.mirror.test_rejected import broken
from tests.support.flows import LOOK, later, page_of
from tests.support.mirror import Mirror


async def kept(mirror: Mirror) -> int:
    return len(await mirror.rows("SELECT FROM sync.rejected_records"))


def unreadable(code: Code) -> RawBody:
    """A page on which it cannot be read."""
    return RawBody(page_of([], broken(code, {"Value": 7})))


async def test_a_code_that_can_be_read_again_is_no_unreadable_record_any_more(mirror: Mirror) -> None:
    (code,) = mirror.add_codes(mirror.add_voucher(), ["A"])
    await mirror.once()
    mirror.simulator.faults.script(Operation.GET_CODES, unreadable(code))
    await later(mirror)
    assert await kept(mirror) == 1
    await audit(mirror.connection, LOOK)
    assert await kept(mirror) == 0


@pytest.mark.long
async def test_a_code_that_cannot_be_read_by_the_audit_either_stays_one(mirror: Mirror) -> None:
    (code,) = mirror.add_codes(mirror.add_voucher(), ["A"])
    await mirror.once()
    mirror.simulator.faults.script(Operation.GET_CODES, unreadable(code), times=3)
    await later(mirror)
    report = await audit(mirror.connection, LOOK)
    assert (report.drift, await kept(mirror)) == (0, 1)
