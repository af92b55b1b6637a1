"""Answers that are no HTTP, or HTTP as nobody sane writes it: each ends as an error of its call, and no more."""

import asyncio
import gzip
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from sync.core import api_errors
from sync.mews.client import Client
from sync.mews.client_settings import ClientSettings, Credentials, RetryPolicy
from sync.mews.operations import ENTERPRISES, ENTERPRISES_GET_ALL
from sync.signals import Signal
from tests.support.mirror import ACCESS_TOKEN, CLIENT_TOKEN

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nRequest-Id: r\r\n"
BODY = b'{"Enterprises":[]}'
CLOSING = b"\r\nConnection: close\r\n\r\n"
PACKED = gzip.compress(BODY)
LENGTH = b"Content-Length: %d\r\n\r\n" % len(BODY)
MAX_BYTES = 50_000
TIMEOUT_S = 1.0
"""Of a call; what never ends is waited for so long."""
ENOUGH = 200_000
"""Bytes of what has no end, beyond which a server here gives up: reading stops long before."""


def endless(part: bytes) -> Iterator[bytes]:
    """So many of it that it might as well have no end."""
    yield from (part for _ in range(ENOUGH // len(part)))


HOSTILE: dict[str, list[bytes] | tuple[bytes, bytes]] = {
    "nothing at all": [b""],
    "no HTTP": [b"220 mail.example ESMTP\r\n"],
    "another version": [b"HTTP/9.9 200 OK\r\n\r\n"],
    "no status": [b"HTTP/1.1 \r\n\r\n"],
    "a status of words": [b"HTTP/1.1 OK OK\r\n\r\n"],
    "a status of four digits": [b"HTTP/1.1 2000 OK\r\n\r\n"],
    "a status beyond all": [b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n"],
    "half a head": [b"HTTP/1.1 200 OK\r\nContent-Ty"],
    "a header without a colon": [HEAD + b"garbage\r\n" + LENGTH + BODY],
    "a header with a NUL": [HEAD + b"X: a\0b\r\n" + LENGTH + BODY],
    "a header that never ends": (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 1000),
    "headers without end": (b"HTTP/1.1 200 OK\r\n", b"X-More: 1\r\n" * 100),
    "announcements without end": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" * 20),
    "two lengths": [HEAD + b"Content-Length: 5\r\nContent-Length: 18\r\n\r\n" + BODY],
    "a negative length": [HEAD + b"Content-Length: -1\r\n\r\n" + BODY],
    "a length beyond all": [HEAD + b"Content-Length: 99999999999999999999\r\n\r\n" + BODY],
    "fewer bytes than announced": [HEAD + b"Content-Length: 99\r\n\r\n" + BODY],
    "chunks of no number": [HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n"],
    "a chunk beyond all": [HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n"],
    "chunks without a last": [HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"],
    "another transfer": [HEAD + b"Transfer-Encoding: gzip\r\n\r\n" + BODY],
    "packed, and it is not": [HEAD + b"Content-Encoding: gzip\r\n" + LENGTH + BODY],
    "packed a hundred times": [HEAD + b"Content-Encoding: gzip" + b", gzip" * 100 + CLOSING + PACKED],
    "another protocol": [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"],
    "a redirect to itself": [b"HTTP/1.1 307 Go\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"],
    "a redirect elsewhere": [b"HTTP/1.1 308 Go\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n"],
    "a redirect to no address": [b"HTTP/1.1 302 Go\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n"],
    "words for a time to wait": [b"HTTP/1.1 429 No\r\nRetry-After: \xff\xfe soon\r\nContent-Length: 0\r\n\r\n"],
    "a time in the year 10000": [b"HTTP/1.1 503 No\r\nRetry-After: Fri, 31 Dec 10000 23:59:59 GMT\r\n\r\n"],
    "a body of bytes": [HEAD + b"Content-Length: 4\r\n\r\n\xff\xfe\x00\x01"],
    "a token sent back": [b"HTTP/1.1 400 No\r\nContent-Type: application/json\r\nRequest-Id: r\r\n\r\n"
                          b'{"Message": "' + ACCESS_TOKEN.encode() + b'"}'],
    "a status line that never ends": (b"HTTP/1.1 200 ", b"x" * 1000),
    "an extension of a chunk that never ends": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2;", b"x" * 1000),
    "headers without end behind the body": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: 1\r\n" * 100),
    "chunks of one byte without end": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 100),
    "packed a thousandfold": [HEAD + b"Content-Encoding: gzip" + CLOSING + gzip.compress(b" " * 10_000_000)],
    "packed in another way": [HEAD + b"Content-Encoding: br" + CLOSING + PACKED],
    "nothing to say": [b"HTTP/1.1 204 No Content\r\nRequest-Id: r\r\n\r\n"],
    "nothing new": [b"HTTP/1.1 304 Not Modified\r\nRequest-Id: r\r\n\r\n"],
    "a part of it": [b"HTTP/1.1 206 Partial Content\r\nRequest-Id: r" + CLOSING + b'{"Enterprises":['],
    "brackets beyond all": [HEAD + b"Connection: close\r\n\r\n" + b"[" * 40_000],
    "no object": [HEAD + b"Connection: close\r\n\r\n" + b"null"],
    "a list of lists": [HEAD + b"Connection: close\r\n\r\n" + b"[[]]"],
    "no number": [HEAD + b"Connection: close\r\n\r\n" + b'{"Enterprises":NaN}'],
    "a Request-Id beyond all": [b"HTTP/1.1 400 No\r\nRequest-Id: " + b"r" * 20_000 + CLOSING + b"{}"],
    "a Request-Id for a terminal": [b"HTTP/1.1 400 No\r\nRequest-Id: \x1b[2J\x07" + CLOSING + b"{}"],
    "words for a terminal": [b"HTTP/1.1 400 No\r\nContent-Type: application/json\r\nRequest-Id: r" + CLOSING
                             + rb'{"Message": "\u001b[2J\r\nError: \u202e\u0000"}'],
    "a reason for a terminal": [b"HTTP/1.1 500 \x1b[2J\x9b\r\nContent-Type: text/html" + CLOSING + b"\x1b]0;x\x07"],
}  # fmt: skip


class Server:
    """Answers every request in the same way; `requests` are what was sent to it."""

    def __init__(self, answer: list[bytes] | tuple[bytes, bytes]) -> None:
        self._answer = answer
        self.requests: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head)
            if isinstance(self._answer, list):
                writer.write(self._answer[0])
            else:
                writer.write(self._answer[0])
                for part in endless(self._answer[1]):
                    writer.write(part)
                    await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has enough
        finally:
            writer.close()


@asynccontextmanager
async def opened(server: Server, read_timeout_s: float = TIMEOUT_S) -> AsyncIterator[Client]:
    """A client that tries once."""
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        client = Client(
            Credentials(
                f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", CLIENT_TOKEN, ACCESS_TOKEN, "test"
            ),
            ClientSettings(100, 30.0, read_timeout_s, MAX_BYTES, RetryPolicy(max_attempts=1)),
            clock=time.monotonic,
            rng=random.Random(1),
            stop=Signal(),
        )
        yield client
        await client.aclose()


@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_hostile_answer_is_an_error_of_its_call(kind: str) -> None:
    server = Server(HOSTILE[kind])
    async with opened(server) as client:
        with pytest.raises(api_errors.ApiError) as raised:
            await client.read(ENTERPRISES_GET_ALL, {}, ENTERPRISES.decode)
    assert len(server.requests) == 1
    words = str(raised.value)
    assert ACCESS_TOKEN not in words
    assert CLIENT_TOKEN not in words
    assert words.isprintable()
    assert len(words) < 1000


async def test_a_cookie_is_not_sent_back() -> None:
    server = Server([HEAD + b"Set-Cookie: session=1; Path=/\r\nConnection: close\r\n" + LENGTH + BODY])
    async with opened(server, read_timeout_s=30) as client:
        for _ in range(2):
            assert await client.read("enterprises/getAll", {}, bytes) == BODY
    assert len(server.requests) == 2
    assert b"cookie" not in b"".join(server.requests).lower()
