"""Waiting for others, who may know a database that this process does not."""

import asyncio

import click

from sync.connection.connection import Connection

STARTED_ANEW = "its server was started anew, and others have worked with it since this one"
LOOK_AGAIN_S = 1.0


async def await_others(connection: Connection) -> None:
    """Where the server was started anew, wait a while for who knows it. Raises `DatabaseError`."""
    incarnation, engine = connection.incarnation, connection.engine
    await incarnation.check(engine)
    if incarnation.is_unsure:
        click.echo(f"Waiting for a daemon that knows the database: {STARTED_ANEW}.", err=True)
    while incarnation.is_unsure and not connection.stop.is_set():
        await asyncio.sleep(LOOK_AGAIN_S)
        await incarnation.check(engine)
