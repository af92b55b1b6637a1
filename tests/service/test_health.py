"""What proves that the API is there ends what was not tried while it was away."""

import pytest

from sync.core.errors import CircuitOpen, NotConnected, Unauthorized
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
