"""A database over TLS, as a provider has it: a server that ends TLS stands before the real one."""

import asyncio
import ssl
import subprocess
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from sync.postgres.urls import libpq_url

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""What a client begins with that wants TLS (PostgreSQL's documentation, *Message Formats*)."""
NAME = "localhost"


def make_authority(directory: Path, name: str) -> Path:
    """The certificate of a new authority, `name.pem`, its key beside it."""
    _openssl("req", "-x509", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem", at=directory)
    return directory / f"{name}.pem"


def make_certificate(directory: Path, authority: Path) -> ssl.SSLContext:
    """What a server of the name `localhost` shows, signed by an authority."""
    _openssl("req", "-subj", f"/CN={NAME}", "-keyout", "server.key", "-out", "server.csr", at=directory)
    (directory / "names").write_text(f"subjectAltName=DNS:{NAME}\n")
    subprocess.run(
        ["openssl", "x509", "-req", "-in", "server.csr", "-CA", authority.name, "-CAkey", f"{authority.stem}.key",
         "-CAcreateserial", "-extfile", "names", "-out", "server.pem"],
        cwd=directory, check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem", directory / "server.key")
    return context


def _openssl(command: str, *options: str, at: Path) -> None:
    subprocess.run(
        ["openssl", command, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", *options],
        cwd=at, check=True, capture_output=True,
    )  # fmt: skip


@asynccontextmanager
async def over_tls(database_url: str, context: ssl.SSLContext) -> AsyncIterator[str]:
    """The way to a database over TLS, and over nothing else, at a port of 127.0.0.1: libpq's URL without a host."""
    real = conninfo_to_dict(libpq_url(database_url))

    connections = set[asyncio.Task[None]]()

    def accept(reader: StreamReader, writer: StreamWriter) -> None:
        connections.add(asyncio.create_task(_serve(reader, writer, context, real)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    password = f":{real['password']}" if real.get("password") else ""
    try:
        yield f"postgresql://{real['user']}{password}@{{host}}:{port}/{real['dbname']}"
    finally:
        server.close()
        await asyncio.gather(*connections)


async def _serve(reader: StreamReader, writer: StreamWriter, context: ssl.SSLContext, real: Mapping[str, Any]) -> None:
    with suppress(OSError, asyncio.IncompleteReadError):
        if await reader.readexactly(len(SSL_REQUEST)) == SSL_REQUEST:
            writer.write(b"S")
            await writer.start_tls(context)
            its_reader, its_writer = await _connect(real)
            await asyncio.gather(_copy(reader, its_writer), _copy(its_reader, writer))
    await _close(writer)


async def _connect(real: Mapping[str, Any]) -> tuple[StreamReader, StreamWriter]:
    host, port = str(real["host"]), int(real.get("port") or 5432)
    if host.startswith("/"):
        return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
    return await asyncio.open_connection(host, port)


async def _copy(reader: StreamReader, writer: StreamWriter) -> None:
    try:
        while part := await reader.read(65_536):
            writer.write(part)
            await writer.drain()
    finally:
        await _close(writer)


async def _close(writer: StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
