"""Traces tell what is done, how long it takes and how it ends, without a code; and cost nothing where nobody asks."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sync.core.tracing import NO_SPAN, span
from sync.demo.simulator import Operation, Status
from sync.tracing import is_wanted, tracing
from tests.support.daemon import running
from tests.support.mirror import ACCESS_TOKEN, CLIENT_TOKEN, Mirror
from tests.support.process import run

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
NOWHERE = {ENDPOINT: "http://127.0.0.1:1"}


@dataclass
class Collector:
    """What takes traces: each span as a name, the name of the one that it is in, its attributes and its error."""

    received: list[Any] = field(default_factory=list)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """Its address."""

        async def take(request: web.Request) -> web.Response:
            batch = ExportTraceServiceRequest.FromString(await request.read())
            self.received += [
                (resource.resource, one)
                for resource in batch.resource_spans
                for scope in resource.scope_spans
                for one in scope.spans
            ]
            return web.Response()

        collector = web.Application()
        collector.router.add_post("/v1/traces", take)
        runner = web.AppRunner(collector, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        await runner.cleanup()

    def spans(self) -> Iterator[tuple[str, str, dict[str, Any], str]]:
        """All that came."""
        names = {one.span_id: one.name for _, one in self.received}
        for _, one in self.received:
            attributes = {each.key: str(each.value).strip() for each in one.attributes}
            yield one.name, names.get(one.parent_span_id, ""), attributes, one.status.message


@pytest.mark.long
async def test_a_cycle_is_told_from_the_job_down_to_each_call_and_without_a_code(
    mirror: Mirror, tmp_path: Path
) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["SECRET-A", "SECRET-B"])
    await mirror.discover()
    await mirror.execute(
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', :id, 'SECRET-C')",
        id=voucher.id,
    )
    mirror.simulator.faults.script(Operation.ADD_CODES, Status(403, "Refused: SECRET-C"))
    collector = Collector()
    async with collector.served() as address:
        await run("once", settings={**mirror.environment, ENDPOINT: address}, directory=tmp_path)
    spans = list(collector.spans())
    parents = {(name, parent) for name, parent, _, _ in spans}
    assert parents >= {
        ("discovery", ""), ("pull", ""), ("window", "pull"), ("request", "window"), ("page", "window"),
        ("request", "push"), ("request", "discovery"),
    }  # fmt: skip
    (page, *_) = (attributes for name, _, attributes, _ in spans if name == "page")
    assert (page["voucher_sync.codes"], page["voucher_sync.written"]) == ("int_value: 2", "int_value: 2")
    assert ("push", "Forbidden") in {(name, error) for name, _, _, error in spans}
    assert 'string_value: "voucher-sync"' in str(collector.received[0][0])
    for secret in ("SECRET", CLIENT_TOKEN, ACCESS_TOKEN):
        assert secret not in str(collector.received)


@pytest.mark.long
async def test_a_collector_that_is_away_or_silent_delays_no_end(mirror: Mirror, tmp_path: Path) -> None:
    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # to the daemon's end
        writer.close()

    mirror.add_codes(mirror.add_voucher(), ["A"])
    async with await asyncio.start_server(take, "127.0.0.1", 0) as silent:
        address = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        for endpoint in (address, NOWHERE[ENDPOINT]):
            variables = {ENDPOINT: endpoint, "OTEL_EXPORTER_OTLP_HEADERS": "hush hush"}
            async with running(mirror, tmp_path, **variables) as daemon:
                await daemon.event("pulled")
                assert await daemon.stopped(signal.SIGTERM) == 0
                assert daemon.count("still_stopping") == 0
                assert "hush" not in str(daemon.logs)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        (NOWHERE, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces"}, True),
        ({**NOWHERE, "OTEL_SDK_DISABLED": "True"}, False),
        ({**NOWHERE, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({ENDPOINT: ""}, False),
        (NOWHERE | {"OTEL_TRACES_EXPORTER": ""}, True),
    ],
)
def test_traces_are_told_where_the_environment_names_a_collector(variables: dict[str, str], expected: bool) -> None:
    assert is_wanted(variables) is expected


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf alone"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "-1"}, "OTEL_...: ValueError"),
    ],
)
def test_what_cannot_be_is_told_in_a_line_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], why: str
) -> None:
    for name, value in {**NOWHERE, **variables}.items():
        monkeypatch.setenv(name, value)
    with structlog.testing.capture_logs() as logs, tracing():
        assert span("pull") is NO_SPAN
    ((line,),) = (logs,)
    assert (line["event"], why in line["why"]) == ("no_traces", True)


def test_without_a_collector_a_span_is_nothing_and_no_library_is_loaded() -> None:
    with tracing():
        assert span("pull", connection="default") is NO_SPAN
