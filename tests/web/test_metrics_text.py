"""The text of all metrics, made of a few connections at a time, is the same and takes little more than itself."""

import tracemalloc
from collections.abc import Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read_plain

from sync.core.histogram import Histogram
from sync.web.metrics import names
from sync.web.metrics.counted import Sample
from sync.web.metrics.exposition import MetricsText

STRANGE = ["a", 'b\n# HELP "x"\\', "# c"]


def samples_of(name: str) -> Iterator[Sample]:
    seconds = Histogram((0.05, 0.1))
    seconds.observe(0.07)
    yield names.REQUESTS, (name, "voucherCodes/getAll", "200"), 3
    yield names.REQUEST_SECONDS, (name, "voucherCodes/getAll"), seconds
    yield names.CIRCUIT_OPEN, (name,), False


@pytest.mark.parametrize("is_openmetrics", [False, True])
def test_one_connection_at_a_time_makes_the_same_text_as_all_at_once(*, is_openmetrics: bool) -> None:
    one_by_one, at_once = (MetricsText(is_openmetrics=is_openmetrics) for _ in range(2))
    for name in STRANGE:
        one_by_one.add(samples_of(name))
    at_once.add(sample for name in STRANGE for sample in samples_of(name))
    text, expected = (
        [line for line in one.whole().decode().split("\n") if "process_" not in line] for one in (one_by_one, at_once)
    )
    assert text == expected
    families = {one.name: one for one in (read_open if is_openmetrics else read_plain)("\n".join(text))}
    told = families["voucher_sync_requests"].samples
    assert [(one.labels["connection"], one.value) for one in told if one.name.endswith("_total")] == [
        (name, 3.0) for name in STRANGE
    ]


@pytest.mark.long
def test_thousands_of_connections_take_little_more_than_their_text() -> None:
    text = MetricsText(is_openmetrics=False)
    tracemalloc.start()
    try:
        for number in range(500):
            text.add(samples_of(f"hotel {number}"))
        length = len(text.whole())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * length
