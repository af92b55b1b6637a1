"""A process that tells somebody, and what there is to tell."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from sqlalchemy import text

from sync.alerts.kept import Kept
from sync.alerts.post import Poster
from sync.alerts.run import Alerter, Webhook
from sync.outbox.claims import as_daemon
from sync.postgres.engine import make_engine, transaction
from sync.service import states
from tests.support.mirror import Mirror
from tests.support.outbox import Outbox
from tests.support.receiver import Receiver


class Time:
    """Seconds that only grow, by hand."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@asynccontextmanager
async def alerting(
    database_url: str,
    receiver: Receiver,
    time: Time,
    stuck: Callable[[], list[str]] = list,
    connections: Callable[[], list[str]] = lambda: ["default"],
    *,
    directory: Path | None = None,
    database: str = "a-database",
) -> AsyncIterator[Alerter]:
    """A process that tells, with an engine of its own; these `connections` are its own, and `directory` its state's."""
    engine = make_engine(database_url)
    async with Poster(receiver.url) as poster:
        webhook, kept = Webhook(poster, None, Random(1), time), Kept(directory, database)
        try:
            yield Alerter(engine, connections, webhook, host="a-host", stuck=stuck, kept=kept, clock=time)
        finally:
            await engine.dispose()


async def set_state(mirror: Mirror, error: str | None) -> None:
    """Lets the connection work, or fail."""
    async with transaction(mirror.connection.engine) as tx:
        await states.note(tx, "default", states.Standing(error, "ServerError" if error else None))


def told(receiver: Receiver) -> list[tuple[str, str]]:
    """What was told, in order."""
    return [(call.json["event"], call.json["condition"]) for call in receiver.calls]


async def hold_one(mirror: Mirror, outbox: Outbox) -> None:
    """Queues a change, and holds it as the delete guard does."""
    voucher = mirror.add_voucher()
    await mirror.discover()
    await outbox.add(voucher, "HUSH-HUSH")
    async with as_daemon(mirror.connection.engine) as tx:
        await tx.execute(text("UPDATE mews.voucher_code_outbox SET status = 'held'"))
