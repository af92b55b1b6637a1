"""Whatever the API may answer: no crash, no loop, the bad records kept, the good ones mirrored.

`FUZZ_CASES` says how many answers are read (`make fuzz`: 100,000), and `FUZZ_SEED` where they begin; a failure names
the seed of its case. `make test-long` reads ten times as many, of other seeds.
"""

import os
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from sync.core.api_errors import ApiError
from sync.demo.simulator import Operation, RawBody
from sync.mews import failures, operations
from sync.mews.clock import ServerClock
from sync.mews.pages import UNREADABLE, Listing
from tests.fuzz.garbage import Garbage
from tests.support.flows import mirrored
from tests.support.mirror import Mirror

CASES = int(os.environ.get("FUZZ_CASES", "1000"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
SEEDS = [range(SEED, SEED + CASES), pytest.param(range(SEED + CASES, SEED + 11 * CASES), marks=pytest.mark.long)]
CASES_PER_PULL = 50
"""A pull takes so much longer than reading an answer does."""
MAX_REQUESTS = 60
NOW = datetime(2026, 6, 1, tzinfo=UTC)
LISTINGS: list[Listing[Any]] = [
    operations.VOUCHER_CODES,
    operations.VOUCHERS,
    operations.VOUCHER_ASSIGNMENTS,
    operations.SERVICES,
    operations.ENTERPRISES,
]


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seeds", SEEDS, ids=str)
def test_no_body_is_more_than_a_page_or_unreadable(seeds: range) -> None:
    for seed in seeds:
        body, good = Garbage(seed).body()
        for listing in LISTINGS:
            try:
                page = listing.decode(body)
            except UNREADABLE:
                assert listing is not operations.VOUCHER_CODES or not good, (
                    f"seed {seed}: a page with good records was given up"
                )
                continue
            assert listing is not operations.VOUCHER_CODES or {code.id for code in page.records} >= set(good), seed
            for record in page.rejected:
                assert record.raw.isascii(), seed
                assert "\x00" not in record.reason, seed


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seeds", SEEDS, ids=str)
def test_no_answer_and_no_header_is_more_than_an_error(seeds: range) -> None:
    clock = ServerClock(lambda: 0.0)
    for seed in seeds:
        garbage = Garbage(seed)
        body, _ = garbage.body()
        header = str(garbage.anything(0)).encode("utf-8", "replace").replace(b"\n", b"")
        headers = [(b"Retry-After", header), (b"Date", header), (b"Request-Id", header)]
        response = httpx.Response(100 + seed % 500, headers=headers, content=body)
        clock.observe(response.headers.get("Date"))
        error = failures.from_response("a/b", response, now=clock.now() or NOW)
        assert isinstance(error, ApiError), seed
        assert str(error).isprintable(), seed


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seeds", SEEDS, ids=str)
async def test_a_pull_ends_and_mirrors_what_is_good(database_url: str, seeds: range) -> None:
    async with Mirror(database_url).opened() as mirror:
        voucher = mirror.add_voucher()
        await mirror.discover()
        for seed in seeds[::CASES_PER_PULL]:
            body, good = Garbage(seed, [voucher.id]).body()
            mirror.simulator.faults.script(Operation.GET_CODES, RawBody(body), times=MAX_REQUESTS + 1)
            before = len(mirror.requests())
            await mirror.pull()
            assert len(mirror.requests()) - before <= MAX_REQUESTS, f"seed {seed}"
            assert set(good) <= await mirrored(mirror), f"seed {seed}"
            mirror.simulator.faults.stop()
