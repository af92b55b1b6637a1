"""The server is in nobody's way: it waits for its port, outlasts hostile clients, and ends with the daemon."""

import asyncio
import signal
import socket
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.support.daemon import running
from tests.support.mirror import Mirror
from tests.support.process import run
from tests.web.helpers import exchange, read_answer, serving

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
QUESTION = GET + b"\r\n"
HOSTILE = {
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
    "an unknown method": b"BREW /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an endless line": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    "an endless header": GET + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
    "a thousand headers": GET + b"".join(b"X-%d: 1\r\n" % number for number in range(1000)) + b"\r\n",
    "a header without a name": GET + b": nothing\r\n\r\n",
    "a NUL": GET + b"X: a\x00b\r\n\r\n",
    "a folded header": GET + b"X: a\r\n b\r\n\r\n",
    "a version of the future": b"GET /healthz HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "two lengths": GET + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a length and chunks": GET + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a wrong length": GET + b"Content-Length: -1\r\n\r\n",
    "a chunk of no size": GET + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a host that is none": b"GET /healthz HTTP/1.1\r\nHost: \xff\xfe@[::\r\n\r\n",
    "a path of escapes": b"GET /%2e%2e/%2e%2e/etc/passwd%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path that is none": b"GET \xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path of brackets": b"GET //[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "another's address": b"GET http://[::1:/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an upgrade": GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + b"\x00" * 1000,
    "a body without an end": GET + b"Content-Length: 1000000000\r\n\r\n" + b"a" * 1000,
    "a thousand requests": QUESTION * 1000,
    "an expectation": GET + b"Expect: aaaa\r\n\r\n",
}


@pytest.mark.sampled
@pytest.mark.parametrize("kind", HOSTILE)
async def test_whatever_comes_gets_an_answer_that_quotes_nothing_and_the_next_is_answered(
    mirror: Mirror, kind: str
) -> None:
    async with serving(mirror) as site:
        received = await site.send(HOSTILE[kind])
        assert received.count(b"Server: ") == received.count(b"Server: voucher-sync") <= 1
        for word in (b"Traceback", b"aiohttp", b"Python", b"etc/passwd", b"aaaa"):
            assert word not in received
        assert (await site.get("/healthz")).status == 200
    assert [line["event"] for line in site.logs] == ["http_listening"]


@pytest.mark.parametrize("path", ["/", "/healthz"])
async def test_who_goes_before_the_answer_is_no_fault_of_ours(mirror: Mirror, path: str) -> None:
    async with mirror.opened(), serving(mirror) as site:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        writer.write_eof()
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
    assert [line["event"] for line in site.logs] == ["http_listening"]


async def test_who_sends_nothing_keeps_nobody_out(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync.web.server.MAX_CONNECTIONS", 5)
    async with serving(mirror) as site:
        silent = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(7)]
        for reader, _ in silent[:2]:
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
        assert (await site.get("/healthz")).status == 200
        for _, writer in silent:
            writer.close()


async def test_who_sends_slowly_is_cut(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync.web.server.LONGEST_S", 0.1)
    async with serving(mirror) as site:
        assert await site.send(GET) == b""


@pytest.mark.parametrize("turns", range(4))
async def test_who_comes_as_it_ends_is_not_left_waiting(mirror: Mirror, turns: int) -> None:
    async with serving(mirror) as site:
        client = socket.create_connection(("127.0.0.1", site.port))
        for _ in range(turns):
            await asyncio.sleep(0)
    with closing(client), suppress(ConnectionResetError):
        client.settimeout(10)
        assert await asyncio.to_thread(client.recv, 1) == b""


@pytest.mark.long
async def test_a_port_that_is_taken_is_told_once_and_taken_when_it_is_free(mirror: Mirror, tmp_path: Path) -> None:
    mirror.add_codes(mirror.add_voucher(), ["A"])
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        async with mirror.opened(), running(mirror, tmp_path, SYNC_HTTP_BIND=bind) as daemon:
            told = await daemon.event("http_not_listening")
            assert told["address"] == bind
            assert "perhaps another voucher-sync" in told["why"]
            await daemon.event("pulled")
            taken.close()
            listening = await daemon.event("http_listening")
            assert listening["address"] == f"http://{bind}/"
            assert daemon.count("http_not_listening") == 1
            assert await daemon.stopped(signal.SIGTERM) == 0


@pytest.mark.long
async def test_a_daemon_answers_while_it_works_and_ends_at_once_with_clients_that_do_not(
    mirror: Mirror, tmp_path: Path
) -> None:
    mirror.add_codes(mirror.add_voucher(), ["A"])
    async with mirror.opened(), running(mirror, tmp_path, SYNC_HTTP_BIND="127.0.0.1:0") as daemon:
        listening = await daemon.event("http_listening")
        port = int(listening["address"].rstrip("/").rpartition(":")[2])
        assert read_answer(await exchange(port, QUESTION)).status == 200
        while not (await mirror.compare()).is_equal:
            await daemon.event("pulled")
        assert read_answer(await exchange(port, QUESTION.replace(b"healthz", b"readyz"))).status == 200
        _, silent = await asyncio.open_connection("127.0.0.1", port)
        silent.write(GET)
        assert await daemon.stopped(signal.SIGTERM) == 0
        assert daemon.count("still_stopping") == daemon.count("defect") == 0
        silent.close()


@pytest.mark.long
async def test_it_does_not_start_where_others_could_read_without_a_token(mirror: Mirror, tmp_path: Path) -> None:
    async with mirror.served():
        settings = {**mirror.environment, "SYNC_HTTP_BIND": "0.0.0.0:0"}
        ended = await run("run", settings=settings, directory=tmp_path)
        checked = await run("check", settings=settings, directory=tmp_path)
    assert (ended.code, ended.stdout) == (2, "")
    assert ended.stderr.startswith("Error: SYNC_HTTP_TOKEN is not set, and SYNC_HTTP_BIND=0.0.0.0:0 can be reached")
    assert "WRONG http: SYNC_HTTP_TOKEN is not set" in checked.stdout
