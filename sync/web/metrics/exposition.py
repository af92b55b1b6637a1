"""The path `/metrics`: samples in the words of Prometheus or OpenMetrics, whichever is asked for."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate

from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry, ProcessCollector, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from sync.core.errors import DatabaseError
from sync.core.histogram import Histogram
from sync.service.running import Running
from sync.web.database_look import DatabaseLook
from sync.web.metrics import names
from sync.web.metrics.counted import Sample, of_connection, of_platforms, of_process
from sync.web.metrics.names import METRICS, PREFIX, Metric
from sync.web.metrics.stored import GOOD_FOR_S, load_stored

AT_ONCE = 10
"""Connections that are counted before others in the loop have their turn."""
LAG_EVERY_S = 0.5
LAG_BOUNDS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Metrics:
    """What `/metrics` answers; `measure_lag` has to run meanwhile."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._lag_s = Histogram(LAG_BOUNDS_S)
        self._stored = DatabaseLook(running.engine, load_stored, good_for_s=GOOD_FOR_S)

    def routes(self) -> Iterable[web.RouteDef]:
        """`/metrics`."""
        return [web.get("/metrics", self.scrape)]

    async def measuring(self, _app: web.Application) -> AsyncIterator[None]:
        """Measure the loop's lag for as long as the application lives."""
        task = asyncio.create_task(self._measure_lag())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def scrape(self, request: web.Request) -> web.Response:
        """Everything, in OpenMetrics' words for whoever takes them, else in Prometheus'."""
        samples = await self._load()
        is_open = "application/openmetrics-text" in request.headers.get(hdrs.ACCEPT, "")
        # In a thread: with many connections it would keep the loop for long.
        body = await asyncio.to_thread(render, samples, is_openmetrics=is_open)
        content_type = openmetrics.CONTENT_TYPE_LATEST if is_open else exposition.CONTENT_TYPE_PLAIN_0_0_4
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    async def _load(self) -> Sequence[Sample]:
        try:
            stored, is_up = await self._stored(), True
        except DatabaseError:
            stored, is_up = [], False
        has_key = bool(self._running.settings.secret_keys)
        samples = [*of_process(self._running.engine, has_secret_key=has_key), *of_platforms(self._running.pools)]
        samples += stored
        samples += [(names.DATABASE_UP, (), is_up), (names.LOOP_LAG, (), self._lag_s.copy())]
        for number, jobs in enumerate(self._running.jobs, start=1):
            samples += of_connection(jobs, self._running.settings.sync_rate_limit_requests)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        return samples

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            self._lag_s.observe(max(0.0, loop.time() - due_s))


class _Samples(Collector):
    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = defaultdict[Metric, list[tuple[Sequence[str], float | Histogram]]](list)
        for metric, labels, value in samples:
            self._samples[metric].append((labels, value))

    def collect(self) -> Iterator[Family]:
        for metric in METRICS:
            yield _family(metric, self._samples[metric])


def render(samples: Sequence[Sample], *, is_openmetrics: bool) -> bytes:
    """All metrics as text, those of the process as an operating system counts them too."""
    registry = CollectorRegistry()
    registry.register(_Samples(samples))
    ProcessCollector(registry=registry)
    if is_openmetrics:
        return bytes(openmetrics.generate_latest(registry))  # type: ignore[no-untyped-call]
    return exposition.generate_latest(registry)


def _family(metric: Metric, samples: Iterable[tuple[Sequence[str], float | Histogram]]) -> Family:
    name = PREFIX + metric.name
    match metric.kind:
        case "histogram":
            histogram = HistogramMetricFamily(name, metric.meaning, labels=metric.labels, unit=metric.unit)
            for labels, value in samples:
                assert isinstance(value, Histogram)  # noqa: S101 - as what is counted of such a metric is
                histogram.add_metric(labels, _buckets(value), value.sum)
            return histogram
        case "info":
            info = InfoMetricFamily(name, metric.meaning)
            for labels, _ in samples:
                info.add_metric([], dict(zip(metric.labels, labels, strict=True)))
            return info
    of_kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = of_kind(name, metric.meaning, labels=metric.labels, unit=metric.unit)
    for labels, value in samples:
        assert not isinstance(value, Histogram)  # noqa: S101 - those are of the kind above
        family.add_metric(labels, float(value))
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
    return [(bound, float(count)) for bound, count in zip(bounds, accumulate(histogram.counts), strict=True)]
