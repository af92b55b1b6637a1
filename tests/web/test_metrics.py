"""What `/metrics` tells is what happened, in words that Prometheus takes."""

import asyncio
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_prometheus
from sqlalchemy import event

from sync.demo.simulator import Operation, RawBody, Status
from sync.mews.address import same_address
from sync.mews.platform_cap import CappedCaller, PlatformLimits
from sync.mews.rate_limiter import Priority
from sync.mews.transport import HttpPools
from sync.service import app
from sync.service.jobs import Jobs
from sync.web.metrics.names import METRICS, OF_DATABASE, PREFIX
from tests.deploy.helpers import needs
from tests.support.mirror import ACCESS_TOKEN, CLIENT_TOKEN, IMPATIENT, Mirror
from tests.support.outbox import Outbox
from tests.support.proxy import Proxy
from tests.web.helpers import MAX_BYTES, TOKEN, Answer, Site, serving
from tests.web.page_states import STATES

LABELS = {"connection", "platform_address", "kind", "outcome", "operation", "status", "version", "revision"}
OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3"
Values = dict[tuple[str, tuple[str, ...]], float]


def values(answer: Answer) -> Values:
    """The samples of a scrape by name and the values of their labels, but for the connection's, which is `default`."""
    assert answer.status == 200
    return values_of(read_prometheus(answer.body.decode()))


def values_of(families: Iterable[Any]) -> Values:
    """The same of what was read in either form."""
    return {
        (sample.name, tuple(v for k, v in sample.labels.items() if k != "connection")): sample.value
        for family in families
        for sample in family.samples
    }


@asynccontextmanager
async def sharing(mirror: Mirror) -> AsyncIterator[tuple[Jobs, HttpPools]]:
    """Jobs whose calls go by these pools, as a daemon's do."""
    settings, pools = mirror.settings(), HttpPools(MAX_BYTES, PlatformLimits(10, 100))
    pool, engine = pools.of(mirror.address), mirror.connection.engine
    given = app.credentials(settings)
    ledger = app.new_ledger(settings, engine, given)
    client = app.make_client(settings, mirror.stop, given, ledger, retry_policy=IMPATIENT, pool=pool)
    try:
        yield app.make_jobs(replace(mirror.connection, client=client), settings), pools
    finally:
        await client.aclose()
        await pools.aclose()


async def worked(site: Site, mirror: Mirror, outbox: Outbox) -> None:
    """Lets the jobs do some of everything, some of it in vain."""
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["SECRET-A", "SECRET-B", "SECRET-C"], days_old=0.001)
    await site.jobs.discover()
    mirror.simulator.faults.script(Operation.GET_CODES, Status(429), RawBody(b"SECRET-E"))
    await site.jobs.pull_turn()
    await site.jobs.pull_turn()
    await site.jobs.audit.begin()
    await outbox.add(voucher, "SECRET-D")
    await site.jobs.outbox.push_all()
    await outbox.add(voucher, "SECRET-F")
    await site.beat()


async def test_what_all_connections_ask_of_an_address_is_told(mirror: Mirror) -> None:
    address, pools = "https://api.example", HttpPools(MAX_BYTES, PlatformLimits(4, 10))
    cap = pools.of(address).cap
    assert cap is not None
    one, other = CappedCaller(cap), CappedCaller(cap)
    pools.take_part(0.25)
    given, waiting = one.turn(Priority.PULL).ask(), other.turn(Priority.PULL).ask()
    assert (given.done(), waiting.done()) == (True, False)
    async with serving(mirror, pools=pools) as site:
        told = values(await site.get("/metrics"))
    names = ("calls_in_flight", "calls_waiting", "calls_in_flight_limit", "calls_per_second_limit", "circuit_open")
    assert [told[f"{PREFIX}platform_{name}", (address,)] for name in names] == [1, 1, 1, 2, 0]
    await pools.aclose()


async def test_what_was_done_is_counted(mirror: Mirror, outbox: Outbox) -> None:
    async with sharing(mirror) as (jobs, pools):
        async with serving(mirror, jobs, pools=pools) as site:
            before = values(await site.get("/metrics"))
            await worked(site, mirror, outbox)
        async with serving(mirror, jobs, pools=pools) as site:
            after = values(await site.get("/metrics"))
    assert {name for (name, _), value in before.items() if name.endswith("_total") and value} <= {
        "process_cpu_seconds_total"
    }
    assert after["voucher_sync_codes_total", ("written",)] == 3
    assert after["voucher_sync_codes_total", ("unchanged",)] >= 3
    assert after["voucher_sync_requests_total", ("voucherCodes/getAll", "429")] == 1
    assert after["voucher_sync_requests_total", ("voucherCodes/add", "200")] == 1
    assert after["voucher_sync_request_retries_total", ("voucherCodes/getAll",)] == 2
    of_codes = sum(value for (name, labels), value in after.items() if labels[:1] == ("voucherCodes/getAll",)
                   and name == "voucher_sync_requests_total")  # fmt: skip
    of_address = ("voucherCodes/getAll", same_address(mirror.address))
    assert after["voucher_sync_request_duration_seconds_count", of_address] == of_codes
    assert after["voucher_sync_budget_used_requests", ()] == len(mirror.simulator.requests)
    assert after["voucher_sync_changes_total", ("done",)] == after["voucher_sync_push_calls_total", ()] == 1
    assert after["voucher_sync_job_runs_total", ("discovery", "ok")] == 1
    assert after["voucher_sync_job_runs_total", ("pull", "ok")] == 2
    assert after["voucher_sync_failing", ("pull",)] == 0
    assert after["voucher_sync_outbox_rows", ("pending",)] == 1
    assert 0 <= after["voucher_sync_outbox_oldest_pending_seconds", ()] < 60
    assert 0 <= after["voucher_sync_freshness_seconds", ()] <= after["voucher_sync_lag_seconds", ()] + 1
    assert after["voucher_sync_audit_drift_codes", ()] == after["voucher_sync_audit_stopped", ()] == 0
    assert after["voucher_sync_database_up", ()] == after["voucher_sync_database_sessions_in_use", ()] + 1 == 1


@pytest.mark.long
async def test_every_metric_is_told_once_something_was_done_and_no_secret_in_either_form(
    mirror: Mirror, outbox: Outbox
) -> None:
    async with sharing(mirror) as (jobs, pools), serving(mirror, jobs, pools=pools, sync_http_token=TOKEN) as site:
        await worked(site, mirror, outbox)
        bearer = f"Bearer {TOKEN}"
        plain = await site.get("/metrics", authorization=bearer)
        openmetrics = await site.get("/metrics", authorization=bearer, accept=OPENMETRICS)
    in_plain = list(read_prometheus(plain.body.decode()))
    in_openmetrics = list(read_openmetrics(openmetrics.body.decode()))  # type: ignore[no-untyped-call]  # the library's
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert {name for name, _ in values_of(in_plain)} == {name for name, _ in values_of(in_openmetrics)}
    told = {family.name for family in in_openmetrics if family.samples}
    assert {PREFIX + metric.name for metric in METRICS} <= told
    assert {family.unit for family in in_openmetrics} == {"", *(metric.unit for metric in METRICS)}
    for secret in (b"SECRET", CLIENT_TOKEN.encode(), ACCESS_TOKEN.encode(), TOKEN.encode()):
        assert secret not in plain.body + openmetrics.body


@pytest.mark.long
async def test_promtool_finds_nothing_to_mend(mirror: Mirror, outbox: Outbox) -> None:
    promtool = needs("promtool")
    async with serving(mirror) as site:
        await worked(site, mirror, outbox)
        answer = await site.get("/metrics")
    checking = await asyncio.create_subprocess_exec(promtool, "check", "metrics", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert await checking.communicate(answer.body) == (b"", b"")
    assert checking.returncode == 0


@pytest.mark.parametrize("accept", ["", "*/*", "text/html", ",;=,;", "application/openmetrics-text;version=x", "\xff"])
async def test_whatever_is_accepted_there_is_an_answer(mirror: Mirror, accept: str) -> None:
    async with serving(mirror) as site:
        assert (await site.get("/metrics", accept=accept)).status == 200


async def test_however_many_scrape_the_database_is_asked_by_one_statement(mirror: Mirror) -> None:
    statements = list[str]()

    def note(*arguments: Any) -> None:
        statements.append(arguments[2])

    async with serving(mirror) as site:
        event.listen(mirror.connection.shared_engine.sync_engine, "before_cursor_execute", note)
        answers = await asyncio.gather(*(site.get("/metrics") for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert sum("FROM" in statement for statement in statements) == 1


@pytest.mark.long
async def test_of_what_was_removed_nothing_is_told_and_of_what_is_paused_no_age(mirror: Mirror) -> None:
    async with serving(mirror) as site:
        await STATES["fleet"](mirror, site)
        await mirror.execute(
            "UPDATE sync.connections SET removed_at = now(), access_token = NULL, owner = NULL "
            "WHERE name = 'hotel-0005'"
        )
        await mirror.execute("UPDATE sync.connections SET owner = NULL WHERE name = 'hotel-0007'")
        await mirror.execute(
            "INSERT INTO sync.rejected_records (connection, digest, kind, raw, reason) "
            "VALUES ('hotel-0005', 'x', 'VoucherCodes', '{}', 'no')"
        )
        answer = await site.get("/metrics")
    samples = [one for family in read_prometheus(answer.body.decode()) for one in family.samples]
    told = {(one.labels.get("connection"), one.name): one.value for one in samples}
    assert "hotel-0005" not in {name for name, _ in told}
    of_paused = {metric for name, metric in told if name == "hotel-0003"}
    assert not {name for name in of_paused if name.endswith("_seconds") or name == "voucher_sync_owned"}
    assert told["hotel-0003", "voucher_sync_paused"] == 1
    assert told["hotel-0001", "voucher_sync_paused"] == 0
    assert (told["hotel-0001", "voucher_sync_owned"], told["hotel-0007", "voucher_sync_owned"]) == (1, 0)
    assert ("hotel-0001", "voucher_sync_freshness_seconds") in told
    assert told[None, "voucher_sync_replicas"] == 3
    assert told[None, "voucher_sync_replicas_silent"] == 1
    assert (told[None, "voucher_sync_stored_connections"], told[None, "voucher_sync_has_secret_key"]) == (19, 0)


async def test_while_the_database_is_away_the_process_is_told_of_all_the_same(database_url: str) -> None:
    async with Proxy(database_url).served() as proxy:
        mirror = Mirror(proxy.url)
        async with mirror.opened(), serving(mirror) as site:
            there = values(await site.get("/metrics"))
            proxy.is_down = True
            proxy.cut()
            async with serving(mirror, site.jobs) as again:
                away = values(await again.get("/metrics"))
    assert there["voucher_sync_database_up", ()] == 1
    assert away["voucher_sync_database_up", ()] == 0
    assert ("voucher_sync_pages_total", ()) in away
    assert not {name for name, _ in away} & {PREFIX + metric.name for metric in OF_DATABASE}


def test_names_units_and_labels_are_what_prometheus_wants() -> None:
    for metric in METRICS:
        assert metric.name.endswith(metric.unit), metric
        assert not metric.name.endswith(("_total", "_info", "_count", "_sum", "_bucket")), metric
        assert set(metric.labels) <= LABELS
    assert len({metric.name for metric in METRICS}) == len(METRICS)
