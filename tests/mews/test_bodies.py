"""Answers that are too long are not read: not their rest, not what they unpack to, and nothing of them is kept."""

import asyncio
import gzip
import random
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import chain, repeat

import pytest

from sync.core import api_errors
from sync.mews.client import Client
from sync.mews.client_settings import RetryPolicy
from sync.mews.operations import ENTERPRISES
from sync.signals import Signal
from tests.mews.helpers import CREDENTIALS, MAX_BYTES, ONCE, client_settings, fail, read

IN_FLIGHT_BYTES = 16_000_000
"""What the system takes off a server before the client has seen it is some megabytes at most."""
OK = ("HTTP/1.1 200 OK", "Request-Id: r-1", "Content-Type: application/json")
GZIP, CHUNKED = "Content-Encoding: gzip", "Transfer-Encoding: chunked"
BLANKS = b" " * 65_536


class Talker:
    """A server that gives every request the same head and parts of a body.

    `asked` is the last request's head, in lower case, and `sent` the bytes of the bodies so far.
    """

    def __init__(self, head: Iterable[str], parts: Callable[[], Iterable[bytes]]) -> None:
        self.requests = self.sent = 0
        self.asked = b""
        self.connections = set[asyncio.Task[None]]()
        self._head = "\r\n".join([*head, "", ""]).encode()
        self._parts = parts

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(asyncio.create_task(self._talk(reader, writer)))

    async def hung_up(self) -> None:
        """Waits until its clients have closed every connection."""
        await asyncio.gather(*self.connections)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                self.asked = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(self.asked.split(b"content-length:")[1].split()[0]))
                self.requests += 1
                writer.write(self._head)
                for part in self._parts():
                    writer.write(part)
                    await writer.drain()
                    self.sent += len(part)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def calling(
    head: Iterable[str], parts: Callable[[], Iterable[bytes]], retry_policy: RetryPolicy = ONCE
) -> AsyncIterator[tuple[Client, Talker]]:
    """A client of such a server, which takes answers of up to `MAX_BYTES`."""
    talker = Talker(head, parts)
    server = await asyncio.start_server(talker.accept, "127.0.0.1", 0)
    given = replace(CREDENTIALS, platform_address=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    settings, rng = client_settings(retry_policy, {}), random.Random(1)
    client = Client(given, settings, clock=time.monotonic, rng=rng, stop=Signal())
    async with server:
        try:
            yield client, talker
        finally:
            await client.aclose()
            await talker.hung_up()


def body(length: int) -> bytes:
    """An empty list of enterprises, of so many bytes."""
    return b'{"Enterprises": []' + b" " * (length - 19) + b"}"


def chunk(part: bytes) -> bytes:
    """A part of a chunked body."""
    return f"{len(part):x}\r\n".encode() + part + b"\r\n"


def sized(content: bytes) -> str:
    return f"Content-Length: {len(content)}"


@pytest.mark.parametrize(
    ("header", "part"),
    [
        pytest.param(CHUNKED, chunk(BLANKS), id="chunked"),
        pytest.param("Connection: close", BLANKS, id="until the connection closes"),
    ],
)
async def test_an_endless_answer_is_cut_off_near_the_limit(header: str, part: bytes) -> None:
    async with calling([*OK, header], lambda: repeat(part)) as (client, talker):
        error = await fail(client)
        await talker.hung_up()
        assert (type(error), talker.requests) == (api_errors.ResponseTooLarge, 1)
        assert MAX_BYTES < talker.sent < MAX_BYTES + IN_FLIGHT_BYTES


async def test_an_answer_that_announces_too_much_is_refused_at_its_headers() -> None:
    # The server sends no byte of the body, so that a client that waited for one would time out.
    async with calling([*OK, f"Content-Length: {MAX_BYTES + 1}"], list) as (client, talker):
        error = await fail(client)
        assert (type(error), error.request_id, talker.sent) == (api_errors.ResponseTooLarge, "r-1", 0)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("length", "is_read"), [(MAX_BYTES, True), (MAX_BYTES + 1, False)])
async def test_the_limit_is_to_the_byte(length: int, packed: bool, is_read: bool) -> None:
    content = gzip.compress(body(length)) if packed else body(length)
    head = [*OK, CHUNKED, *([GZIP] if packed else [])]
    async with calling(head, lambda: [chunk(content), chunk(b"")]) as (client, _):
        if is_read:
            assert await read(client) == []
        else:
            assert type(await fail(client)) is api_errors.ResponseTooLarge


def bomb() -> bytes:
    """A quarter of a gigabyte, in a quarter of a megabyte."""
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    return b"".join([*(packer.compress(BLANKS) for _ in range(4096)), packer.flush()])


@pytest.mark.long
async def test_what_unpacks_to_too_much_is_not_unpacked() -> None:
    content = bomb()
    assert len(content) < MAX_BYTES
    async with calling([*OK, GZIP, sized(content)], lambda: [content]) as (client, _):
        tracemalloc.start()
        try:
            error = await fail(client)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert type(error) is api_errors.ResponseTooLarge
        assert peak < 5 * MAX_BYTES


async def test_what_is_packed_and_never_ends_is_cut_off_although_it_unpacks_to_little() -> None:
    packed = gzip.compress(body(100))
    async with calling([*OK, GZIP, CHUNKED], lambda: chain([chunk(packed)], repeat(chunk(BLANKS)))) as (client, talker):
        assert type(await fail(client)) is api_errors.ResponseTooLarge
        await talker.hung_up()
        assert talker.sent < MAX_BYTES + IN_FLIGHT_BYTES


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("gzip", b"no gzip"),
        ("gzip", gzip.compress(body(5000))[:-40]),
        ("deflate", zlib.compress(body(100))),
        ("br", b"\x0b\x02\x80{}\x03"),
        ("gzip, gzip", gzip.compress(gzip.compress(body(100)))),
    ],
    ids=["not packed", "cut", "deflate", "brotli", "packed twice"],
)
async def test_what_is_packed_badly_or_in_a_way_that_was_not_asked_for_cannot_be_read(
    encoding: str, content: bytes
) -> None:
    async with calling([*OK, f"Content-Encoding: {encoding}", sized(content)], lambda: [content]) as (client, talker):
        assert type(await fail(client)) is api_errors.InvalidResponse
        assert b"\r\naccept-encoding: gzip\r\n" in talker.asked


async def test_what_is_no_answer_of_the_api_s_is_no_reason_to_ask_it_for_less() -> None:
    head = ("HTTP/1.1 200 OK", "Content-Type: text/html", f"Content-Length: {MAX_BYTES + 1}")
    async with calling(head, list) as (client, _):
        assert type(await fail(client)) is api_errors.InvalidResponse


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, api_errors.Unauthorized),
        (408, api_errors.RequestTimedOut),
        (429, api_errors.RateLimited),
        (503, api_errors.ServerError),
    ],
)
async def test_a_long_answer_with_an_error_s_status_is_that_error(status: int, kind: type[api_errors.ApiError]) -> None:
    head = (f"HTTP/1.1 {status} No", *OK[1:], "Retry-After: 7", CHUNKED)
    async with calling(head, lambda: repeat(chunk(BLANKS))) as (client, _):
        error = await fail(client)
        assert (type(error), error.retry_after_s, error.request_id) == (kind, 7, "r-1")


async def test_the_error_tells_what_to_do_and_nothing_of_the_body() -> None:
    content = b'{"Enterprises": ["SECRET-VALUE"]}' + BLANKS
    async with calling([*OK, CHUNKED], lambda: repeat(chunk(content))) as (client, _):
        error = await fail(client)
    assert str(error) == (
        "enterprises/getAll: the answer is longer than SYNC_MAX_RESPONSE_MB allows; raise it if this stays (200) "
        "[Request-Id r-1]"
    )
    assert "SECRET" not in repr([error, vars(error), error.__cause__, error.__context__])


@pytest.mark.long
async def test_errors_that_are_kept_keep_no_bodies() -> None:
    async with calling([*OK, CHUNKED], lambda: repeat(chunk(BLANKS))) as (client, _):
        tracemalloc.start()
        try:
            kept = [await fail(client) for _ in range(20)]
            now, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert {type(error) for error in kept} == {api_errors.ResponseTooLarge}
    assert now < 5 * MAX_BYTES


async def test_a_read_is_not_tried_again_and_a_write_s_outcome_is_unknown() -> None:
    async with calling([*OK, CHUNKED], lambda: repeat(chunk(BLANKS)), retry_policy=RetryPolicy()) as (client, talker):
        assert type(await fail(client)) is api_errors.ResponseTooLarge
        assert talker.requests == 1
        with pytest.raises(api_errors.OutcomeUnknown) as raised:
            await client.write("voucherCodes/add", {}, ENTERPRISES.decode, 30)
        assert (type(raised.value), talker.requests) == (api_errors.ResponseTooLarge, 2)


async def test_however_many_are_too_long_the_api_is_not_taken_for_broken() -> None:
    async with calling([*OK, f"Content-Length: {MAX_BYTES + 1}"], list) as (client, talker):
        assert {type(await fail(client)) for _ in range(50)} == {api_errors.ResponseTooLarge}
        assert (talker.requests, client.is_waiting) == (50, False)
