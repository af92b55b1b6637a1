"""`python -m tests.support.relay PORT SOCKET`: what comes to a port of 127.0.0.1 goes to a socket that is a file."""

import asyncio
import sys
from asyncio import StreamReader, StreamWriter
from contextlib import suppress

CHUNK = 65_536


async def copy_both(
    reader: StreamReader, writer: StreamWriter, other: StreamReader, other_writer: StreamWriter
) -> None:
    """Passes on in both directions, until either end is closed."""
    copying = [asyncio.create_task(_copy(reader, other_writer)), asyncio.create_task(_copy(other, writer))]
    await asyncio.wait(copying, return_when=asyncio.FIRST_COMPLETED)
    for one in copying:
        one.cancel()
    for end in (writer, other_writer):
        end.close()
    await asyncio.gather(*copying, return_exceptions=True)


async def _copy(reader: StreamReader, writer: StreamWriter) -> None:
    with suppress(OSError):
        while part := await reader.read(CHUNK):
            writer.write(part)
            await writer.drain()


async def _serve(port: int, socket: str) -> None:
    async def pass_on(reader: StreamReader, writer: StreamWriter) -> None:
        await copy_both(reader, writer, *await asyncio.open_unix_connection(socket))

    server = await asyncio.start_server(pass_on, "127.0.0.1", port)
    print(flush=True)  # noqa: T201 - whoever waits for it reads a line
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2]))
