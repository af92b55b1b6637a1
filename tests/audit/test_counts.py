"""The counts of codes are kept short by pulls, and put right by audits."""

import pytest

from sync.audit.run import audit
from sync.mirror import counts
from sync.mirror.counts import COUNTED
from sync.service.app import make_jobs
from tests.support.flows import REPAIR
from tests.support.mirror import Mirror

KEPT = "SELECT voucher_id, created_month, issued, active, deleted FROM mews.voucher_codes_by_month ORDER BY 1, 2"
ROWS = "SELECT count(*) AS number FROM sync.code_counts"


async def is_right(mirror: Mirror) -> bool:
    return await mirror.rows(KEPT) == await mirror.rows(f"{COUNTED} ORDER BY 1, 2")


@pytest.mark.long
async def test_a_pull_that_wrote_something_makes_one_row_of_many(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "WORTH_MERGING", 2)
    jobs = make_jobs(mirror.connection, mirror.settings())
    voucher = mirror.add_voucher()
    for number in range(4):
        mirror.add_codes(voucher, [f"VALUE-{number}"])
        await jobs.discover()
        await jobs.pull()
    assert await mirror.rows(ROWS) == [{"number": 1}]
    assert await is_right(mirror)


@pytest.mark.long
async def test_an_audit_counts_anew(mirror: Mirror) -> None:
    mirror.add_codes(mirror.add_voucher(), ["A", "B"])
    await mirror.once()
    await mirror.execute("UPDATE sync.code_counts SET issued = 17")
    assert not await is_right(mirror)
    await audit(mirror.connection, REPAIR)
    assert await is_right(mirror)
