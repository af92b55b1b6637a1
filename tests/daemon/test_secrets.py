"""No token and no code's value leaves by another way than the mirror and the outbox, whatever goes wrong."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from sync.demo.simulator import Close, HtmlPage, MalformedJson, Operation, RawBody, Status, TruncatedBody
from tests.support.daemon import running
from tests.support.mirror import ACCESS_TOKEN, CLIENT_TOKEN, Mirror
from tests.support.process import run

MARK = "MARKED-VALUE"
WRITES = (Operation.ADD_CODES, Operation.DELETE_CODES)
FAULTS = {
    Status(429): 0.1,
    Status(503): 0.1,
    Close(processed=True): 0.1,
    MalformedJson(): 0.1,
    TruncatedBody(): 0.1,
    HtmlPage(): 0.1,
    RawBody(b"", status=202): 0.1,
}
PATHS = ("metrics", "readyz", "healthz")
REFUSED = ("check", "once", "audit")
KEPT = {"rejected_records": "raw"}
"""Where the text of a record may stand as it came."""


async def echo(operation: Operation, body: Mapping[str, Any]) -> None:
    """The API quotes what it was sent in its refusals, and a proxy does in its page."""
    quoted = json.dumps({"ClientToken": CLIENT_TOKEN, "AccessToken": ACCESS_TOKEN, **body})
    if operation in WRITES and f"{MARK}-QUOTED" in quoted:
        message = json.dumps({"Message": f"Refused: {quoted}"})
        raise web.HTTPForbidden(text=message, content_type="application/json", headers={"Request-Id": "r-1"})
    if operation in WRITES and f"{MARK}-PAGE" in quoted:
        raise web.HTTPForbidden(text=f"<html>{quoted}</html>", content_type="text/html")


async def conflict(operation: Operation, body: Mapping[str, Any]) -> None:
    """The API quotes what it was sent in a failure that is no refusal, which daemons log."""
    if operation in WRITES:
        message = json.dumps({"Message": f"Changed meanwhile: {json.dumps(body)}"})
        raise web.HTTPConflict(text=message, content_type="application/json", headers={"Request-Id": "r-2"})


async def queue(mirror: Mirror, *values: str) -> None:
    """Queues adds of marked values."""
    (voucher_id,) = mirror.world.vouchers
    await mirror.execute(
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) SELECT 'add', :voucher, unnest(:values)",
        voucher=voucher_id,
        values=[f"{MARK}-{value}" for value in values],
    )


async def stored(mirror: Mirror) -> dict[str, str]:
    """Everything in schema `sync`, by table, without what may stand there."""
    tables = await mirror.rows("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'sync'")
    found = {}
    for table in tables:
        rows = await mirror.rows(f"SELECT to_jsonb(one) AS row FROM sync.{table['name']} AS one")
        kept = KEPT.get(table["name"])
        found[table["name"]] = json.dumps([{k: v for k, v in row["row"].items() if k != kept} for row in rows])
    return found


@pytest.mark.long
async def test_no_token_and_no_value_is_told_or_kept_elsewhere(database_url: str, tmp_path: Path) -> None:
    mirror = Mirror(database_url)
    mirror.world.tokens[ACCESS_TOKEN].name = "token"
    mirror.add_codes(mirror.add_voucher(), [f"{MARK}-{number}" for number in range(20)])
    quick = {"SYNC_SETTLE_AFTER_S": "0.3", "SYNC_PUSH_POLL_S": "0.2", "SYNC_LEASE_S": "2"}
    async with mirror.opened():
        mirror.simulator.on_request = conflict
        async with running(mirror, tmp_path, SYNC_HTTP_BIND="127.0.0.1:0", **quick) as daemon:
            site = await daemon.event("http_listening")
            await daemon.event("pulled")
            await queue(mirror, "CONFLICT")
            await daemon.event("failing")
            mirror.simulator.on_request = echo
            mirror.simulator.faults.by_chance(FAULTS, seed=5, operations=WRITES)
            for number in range(12):
                await queue(mirror, f"NEW-{number}", f"QUOTED-{number}", f"PAGE-{number}")
                await daemon.event("pulled")
            mirror.simulator.faults.stop()
            while await mirror.rows("SELECT FROM mews.voucher_code_outbox WHERE status = 'uncertain'"):
                await daemon.event("pulled")
            async with httpx.AsyncClient(base_url=site["address"]) as http:
                answers = {path: (await http.get(path)).text for path in PATHS}
            daemon.process.kill()
        settings = mirror.environment | quick
        commands = [("status",), ("status", "--json"), ("check",), ("outbox", "list"), ("audit",), ("once",)]
        told = {" ".join(words): str(await run(*words, settings=settings, directory=tmp_path)) for words in commands}
        mirror.world.permit(ACCESS_TOKEN, set())
        told |= {f"refused {word}": str(await run(word, settings=settings, directory=tmp_path)) for word in REFUSED}
        told |= answers | {"logs": json.dumps(daemon.logs)} | await stored(mirror)
        failed = await mirror.rows("SELECT last_error FROM mews.voucher_code_outbox WHERE status = 'failed'")
    assert any(MARK in row["last_error"] for row in failed), "nothing was quoted, so nothing was tried"
    for secret in (MARK, CLIENT_TOKEN, ACCESS_TOKEN):
        assert [place for place, text in told.items() if secret in text and place != "outbox list"] == []
    assert not any(CLIENT_TOKEN in row["last_error"] or ACCESS_TOKEN in row["last_error"] for row in failed)
