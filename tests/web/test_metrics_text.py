"""The text of all metrics, told in parts, is what the library makes of them, and is never there as a whole."""

import tracemalloc
from datetime import UTC, datetime

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read_plain

from sync.mews.transport import HttpPools
from sync.service import app
from sync.service.running import Running
from sync.web.metrics import names
from sync.web.metrics.exposition import Form, Metrics, lines
from tests.support.mirror import Mirror
from tests.web.helpers import MAX_BYTES

STRANGE = ["a", 'b\n# HELP "x"\\', "# c"]


@pytest.mark.parametrize("is_openmetrics", [False, True])
def test_lines_behind_a_head_are_as_the_library_writes_them(*, is_openmetrics: bool) -> None:
    form = Form(is_openmetrics=is_openmetrics)
    samples = [((name, "voucherCodes/getAll", "200"), 3.0) for name in STRANGE]
    text = form.told(names.REQUESTS, ()) + lines(names.REQUESTS, samples)
    assert text == form.told(names.REQUESTS, samples)
    ended = text + (b"# EOF\n" if is_openmetrics else b"")
    (family,) = (read_open if is_openmetrics else read_plain)(ended.decode())
    assert [one.labels["connection"] for one in family.samples] == STRANGE


@pytest.mark.long
async def test_a_scrape_of_thousands_takes_little_memory(mirror: Mirror) -> None:
    pools, jobs = HttpPools(MAX_BYTES), app.make_jobs(mirror.connection, mirror.settings())
    running = Running(
        mirror.settings(), mirror.connection.engine, [jobs] * 1000, mirror.stop, datetime.now(UTC), pools, ""
    )
    length, form = 0, Form(is_openmetrics=False)
    async for part in await Metrics(running).tell(form):
        length += len(part)
    tracemalloc.start()
    try:
        async for _ in await Metrics(running).tell(form):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert length > 1_000_000
    assert peak < length / 4
