"""Bodies of answers, unpacked, and read no further than they may be long.

httpx keeps whatever comes, and unpacks each piece of it whole: a few megabytes of gzip become gigabytes. So each answer
gets another stream for its body, before anything of it is read. The stream only ends early: sending, closing and
cancelling stay httpx's, which then closes a connection that has more to say.
"""

import zlib
from collections.abc import AsyncIterator
from typing import cast

import httpx

ACCEPTED = "gzip"
"""The only `Content-Encoding` that is asked for and unpacked: a body in another one is no JSON."""
GZIP_WINDOW = zlib.MAX_WBITS | 16


def limit(response: httpx.Response, max_bytes: int) -> None:
    """Let the body of an answer, which is still unread, have `max_bytes` at most, as it comes and unpacked."""
    # httpx would unpack by this header, with any codec that happens to be installed.
    encoding = response.headers.pop("Content-Encoding", "")
    response.stream = _Body(
        cast("httpx.AsyncByteStream", response.stream),  # an asynchronous transport's
        max_bytes,
        announced_bytes=int(response.headers.get("Content-Length", 0)),
        is_packed=encoding.lower() == ACCEPTED,
    )


def is_cut(response: httpx.Response) -> bool:
    """Whether its body was too long; then nothing is left of it."""
    return isinstance(response.stream, _Body) and response.stream.is_cut


class _Body(httpx.AsyncByteStream):
    """A body in one piece, since many small ones would take many times its length."""

    def __init__(self, stream: httpx.AsyncByteStream, max_bytes: int, *, announced_bytes: int, is_packed: bool) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._unpacker = zlib.decompressobj(GZIP_WINDOW) if is_packed else None
        self.is_cut = announced_bytes > max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if not self.is_cut:
            yield await self._read()

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def _read(self) -> bytes:
        body, came = bytearray(), 0
        async for part in self._stream:
            came += len(part)
            body += self._unpack(part, self._max_bytes + 1 - len(body))
            if max(came, len(body)) > self._max_bytes:
                self.is_cut = True
                return b""
        return bytes(body)

    def _unpack(self, part: bytes, max_bytes: int) -> bytes:
        if self._unpacker is None:
            return part
        if self._unpacker.eof:
            return b""  # the unpacker would keep what follows the end, and copy it at every part
        try:
            return self._unpacker.decompress(part, max_bytes)
        except zlib.error as error:
            raise httpx.DecodingError(str(error)) from error
