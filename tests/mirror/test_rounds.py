"""A pull ends in a bounded number of rounds and calls, whatever somebody does to what it has noted."""

import asyncio

from tests.support.flows import numbered
from tests.support.guards import put
from tests.support.mirror import Mirror

FORGETS = [
    "CREATE FUNCTION public.guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
    "CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON sync.watermarks FOR EACH ROW EXECUTE FUNCTION public.guard()",
]


async def test_a_backfill_that_is_never_noted_as_done_does_not_keep_a_pull_going_for_ever(mirror: Mirror) -> None:
    mirror.add_codes(mirror.add_voucher(), numbered(20))
    await mirror.discover()
    await put(mirror, FORGETS)
    before = len(mirror.requests())
    async with asyncio.timeout(60):
        report = await mirror.pull()
    assert (report.caught_up, report.written) == (None, 20)
    assert len(mirror.requests()) - before <= 40
