"""The path `/metrics`: samples in the words of Prometheus or OpenMetrics, whichever is asked for."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate

from aiohttp import hdrs, web
from prometheus_client import ProcessCollector, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import exposition as openmetrics

from sync.core.errors import DatabaseError
from sync.core.histogram import Histogram
from sync.service.jobs import Jobs
from sync.service.running import Running
from sync.web.database_look import DatabaseLook
from sync.web.metrics import names
from sync.web.metrics.counted import Sample, of_connection, of_platforms, of_process
from sync.web.metrics.names import METRICS, PREFIX, Metric
from sync.web.metrics.stored import GOOD_FOR_S, load_stored

AT_ONCE = 10
"""Connections that are counted before others in the loop have their turn, and told of before more are counted."""
HEAD, END = b"# ", b"# EOF\n"
_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
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
        is_open = "application/openmetrics-text" in request.headers.get(hdrs.ACCEPT, "")
        text = MetricsText(is_openmetrics=is_open)
        # In a thread: with many connections it would keep the loop for long.
        await asyncio.to_thread(text.add, await self._of_all())
        for jobs in _batches(self._running.jobs):
            limit = self._running.settings.sync_rate_limit_requests
            samples = [sample for one in jobs for sample in of_connection(one, limit)]
            await asyncio.to_thread(text.add, samples)
        body = await asyncio.to_thread(text.whole)
        content_type = openmetrics.CONTENT_TYPE_LATEST if is_open else exposition.CONTENT_TYPE_PLAIN_0_0_4
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    async def _of_all(self) -> Sequence[Sample]:
        """What is told once, and what the database knows."""
        try:
            stored, is_up = await self._stored(), True
        except DatabaseError:
            stored, is_up = [], False
        has_key = bool(self._running.settings.secret_keys)
        samples = [*of_process(self._running.engine, has_secret_key=has_key), *of_platforms(self._running.pools)]
        samples += stored
        return [*samples, (names.DATABASE_UP, (), is_up), (names.LOOP_LAG, (), self._lag_s.copy())]

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            self._lag_s.observe(max(0.0, loop.time() - due_s))


class _Families:
    """What the library asks for its samples."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


class MetricsText:
    """All metrics as text, made of some samples at a time: of thousands of connections they are many times as large."""

    def __init__(self, *, is_openmetrics: bool) -> None:
        self._generate = openmetrics.generate_latest if is_openmetrics else exposition.generate_latest
        self._end = END if is_openmetrics else b""
        self._lines = defaultdict[Metric, bytearray](bytearray)

    def add(self, samples: Iterable[Sample]) -> None:
        """Take samples, of metrics in any order."""
        of_metric = defaultdict[Metric, list[tuple[Sequence[str], float | Histogram]]](list)
        for metric, labels, value in samples:
            of_metric[metric].append((labels, value))
        for metric, found in of_metric.items():
            if metric.kind in {"gauge", "counter"}:
                self._lines[metric] += "".join(_lines(metric, found)).encode()
            else:
                lines = self._told([_family(metric, found)]).split(b"\n")
                self._lines[metric] += b"\n".join(line for line in lines if not line.startswith(HEAD))

    def whole(self) -> bytearray:
        """The text, those of the process as an operating system counts them too; only once."""
        text = bytearray()
        for metric in METRICS:
            text += self._told([_family(metric, [])])
            text += self._lines.pop(metric, b"")
        text += self._told(ProcessCollector(registry=None).collect())
        text += self._end
        return text

    def _told(self, families: Iterable[Family]) -> bytes:
        return bytes(self._generate(_Families(families))).removesuffix(END)


def _family(metric: Metric, samples: Iterable[tuple[Sequence[str], float | Histogram]]) -> Family:
    """A metric as the library tells it: of a gauge or a counter its head alone."""
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
    return of_kind(name, metric.meaning, labels=metric.labels, unit=metric.unit)


def _lines(metric: Metric, samples: Iterable[tuple[Sequence[str], float | Histogram]]) -> Iterator[str]:
    """Samples of a gauge or a counter, which both forms write alike.

    The library takes four times as long for them: of thousands of connections longer than a scrape may take.
    """
    name = metric.full_name
    for labels, value in samples:
        assert not isinstance(value, Histogram)  # noqa: S101 - as those of such a metric are
        pairs = zip(metric.labels, labels, strict=True)
        told = ",".join(f'{label}="{of.translate(_ESCAPED)}"' for label, of in pairs)
        yield f"{name}{{{told}}} {float(value)}\n" if told else f"{name} {float(value)}\n"


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
    return [(bound, float(count)) for bound, count in zip(bounds, accumulate(histogram.counts), strict=True)]


def _batches(all_jobs: Sequence[Jobs]) -> Iterator[Sequence[Jobs]]:
    all_jobs = list(all_jobs)  # others come and go meanwhile
    return (all_jobs[at : at + AT_ONCE] for at in range(0, len(all_jobs), AT_ONCE))
