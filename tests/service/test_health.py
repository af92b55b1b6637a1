"""What proves that the API is there ends what was not tried while it was away."""

import gc
import weakref

import pytest

from sync.core.errors import CircuitOpen, NotConnected, Unauthorized, VoucherSyncError
from sync.service.health import Health
from tests.support.mirror import Mirror

OPERATION = "voucherCodes/getAll"


@pytest.mark.parametrize("job", ["discovery", "settle", "outbox"])
async def test_a_pull_ends_the_outage_of_what_was_not_tried(mirror: Mirror, job: str) -> None:
    health = Health(mirror.connection)
    await health.note(job, CircuitOpen(OPERATION, "nobody is answered"))
    await health.note("pull", NotConnected(OPERATION))
    assert (await mirror.rows("SELECT state FROM sync.connections")) == [{"state": "failing"}]
    await health.note("pull", None)
    assert health.errors == []
    assert (await mirror.rows("SELECT state FROM sync.connections")) == [{"state": "ok"}]


async def test_what_a_job_was_refused_for_itself_stays(mirror: Mirror) -> None:
    health, refused = Health(mirror.connection), Unauthorized(OPERATION, status=401)
    await health.note("discovery", refused)
    await health.note("pull", None)
    assert health.errors == [refused]


class _Large:
    """What a frame holds."""


def _fail(seen: list[weakref.ref[_Large]]) -> None:
    large = _Large()
    seen.append(weakref.ref(large))
    raise NotConnected(OPERATION) from TimeoutError()


async def test_a_failure_that_is_kept_keeps_nothing_of_what_met_it(mirror: Mirror) -> None:
    health, seen = Health(mirror.connection), list[weakref.ref[_Large]]()
    try:
        _fail(seen)
    except VoucherSyncError as error:
        await health.note("pull", error)
    gc.collect()
    assert [str(one) for one in health.errors] == [str(NotConnected(OPERATION))]
    assert [one() for one in seen] == [None]
