"""The path `/metrics`: samples in the words of Prometheus or OpenMetrics, whichever is asked for."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate, chain

from aiohttp import hdrs, web
from prometheus_client import ProcessCollector, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import exposition as openmetrics

from sync.core.errors import DatabaseError
from sync.core.histogram import Histogram
from sync.service.jobs import Jobs
from sync.service.running import Running
from sync.web.answers import finished
from sync.web.database_look import DatabaseLook
from sync.web.metrics import names
from sync.web.metrics.counted import OF_JOBS, Observed, Told, of_platforms, of_process
from sync.web.metrics.names import METRICS, PREFIX, Metric
from sync.web.metrics.stored import GOOD_FOR_S, Stored, load_stored

AT_ONCE = 100
"""Connections that are told of before others in the loop have their turn; what is told of them is sent before more is.
All of thousands would take a hundred megabytes, which a process does not give back."""
END = b"# EOF\n"
_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
LAG_EVERY_S = 0.5
LAG_BOUNDS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class _Families:
    """What the library asks for its samples."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


class Form:
    """How metrics are told: in OpenMetrics' words or Prometheus'."""

    def __init__(self, *, is_openmetrics: bool) -> None:
        self._generate = openmetrics.generate_latest if is_openmetrics else exposition.generate_latest
        self._end = END if is_openmetrics else b""

    def told(self, metric: Metric, samples: Iterable[Told | Observed]) -> bytes:
        """A metric's head, and samples of it."""
        return self._of([_family(metric, samples)])

    def end(self) -> bytes:
        """What an operating system counts of the process, and the last line."""
        return self._of(ProcessCollector(registry=None).collect()) + self._end

    def _of(self, families: Iterable[Family]) -> bytes:
        return bytes(self._generate(_Families(families))).removesuffix(END)


class Metrics:
    """What `/metrics` answers; `measuring` has to run meanwhile."""

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

    async def scrape(self, request: web.Request) -> web.StreamResponse:
        """Everything, in OpenMetrics' words for whoever takes them, else in Prometheus'."""
        is_open = "application/openmetrics-text" in request.headers.get(hdrs.ACCEPT, "")
        content_type = openmetrics.CONTENT_TYPE_LATEST if is_open else exposition.CONTENT_TYPE_PLAIN_0_0_4
        answer = finished(web.StreamResponse(headers={hdrs.CONTENT_TYPE: content_type}))
        parts = await self.tell(Form(is_openmetrics=is_open))
        await answer.prepare(request)
        if request.method != hdrs.METH_HEAD:
            async for part in parts:
                await answer.write(part)
        return answer

    async def tell(self, form: Form) -> AsyncIterator[bytes]:
        """The text of all metrics in parts. Nothing fails behind the first, where it could not be told any more."""
        try:
            stored, is_up = await self._stored(), True
        except DatabaseError:
            stored, is_up = {}, False
        return self._parts(form, self._of_all(is_up=is_up), stored)

    async def _parts(
        self, form: Form, of_all: Mapping[Metric, Sequence[Told | Observed]], stored: Stored
    ) -> AsyncIterator[bytes]:
        for metric in METRICS:
            yield form.told(metric, of_all.get(metric, ()))
            some: Iterator[Iterable[Told]] = chain(_of_connections(self._running.jobs, metric), stored.get(metric, ()))
            for told in some:
                yield lines(metric, told)
                await asyncio.sleep(0)
        yield form.end()

    def _of_all(self, *, is_up: bool) -> Mapping[Metric, Sequence[Told | Observed]]:
        """What is told once. `is_up`: whether the database has just answered."""
        has_key = bool(self._running.settings.secret_keys)
        of_all = defaultdict[Metric, list[Told | Observed]](list)
        for metric, told in (
            *of_process(self._running.engine, has_secret_key=has_key),
            *of_platforms(self._running.pools),
            (names.DATABASE_UP, ((), is_up)),
            (names.LOOP_LAG, ((), self._lag_s.copy())),
        ):
            of_all[metric].append(told)
        return of_all

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            self._lag_s.observe(max(0.0, loop.time() - due_s))


def _family(metric: Metric, samples: Iterable[Told | Observed]) -> Family:
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
        assert not isinstance(value, Histogram)  # noqa: S101 - as those of such a metric are
        family.add_metric(labels, float(value))
    return family


def lines(metric: Metric, samples: Iterable[Told]) -> bytes:
    """Samples of a gauge or a counter without its head, which both forms write alike.

    The library takes four times as long for them: of thousands of connections longer than a scrape may take.
    """
    return "".join(_lines(metric, samples)).encode()


def _lines(metric: Metric, samples: Iterable[Told]) -> Iterator[str]:
    name = metric.full_name
    for labels, value in samples:
        pairs = zip(metric.labels, labels, strict=True)
        told = ",".join(f'{label}="{of.translate(_ESCAPED)}"' for label, of in pairs)
        yield f"{name}{{{told}}} {float(value)}\n" if told else f"{name} {float(value)}\n"


def _of_connections(all_jobs: Sequence[Jobs], metric: Metric) -> Iterator[Iterator[Told]]:
    """What the process has counted of its connections, of some at a time."""
    if read := OF_JOBS.get(metric):
        yield from (_read(jobs, read) for jobs in _batches(all_jobs))


def _read(all_jobs: Iterable[Jobs], read: Callable[[Jobs], Iterator[Told]]) -> Iterator[Told]:
    for jobs in all_jobs:
        name = jobs.connection.name
        for labels, value in read(jobs):
            yield (name, *labels), value


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
    return [(bound, float(count)) for bound, count in zip(bounds, accumulate(histogram.counts), strict=True)]


def _batches(all_jobs: Sequence[Jobs]) -> Iterator[Sequence[Jobs]]:
    all_jobs = list(all_jobs)  # others come and go meanwhile
    return (all_jobs[at : at + AT_ONCE] for at in range(0, len(all_jobs), AT_ONCE))
