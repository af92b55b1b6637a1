"""Whose calls the budget went to is told by who made them, under whatever names they were written down."""

from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.mews.ledger import Entry
from sync.postgres.engine import transaction
from sync.service.ledgers import Ledgers
from sync.service.status.load import load_overview
from sync.settings import Settings


async def test_the_calls_of_two_connections_of_one_daemon_are_told_as_its_own(engine: AsyncEngine) -> None:
    process, ledgers = uuid4(), Ledgers()
    async with engine.begin() as tx:
        await tx.execute(
            text(
                "INSERT INTO sync.daemons (process, host, pid, version, revision, settings) "
                "VALUES (:process, 'a', 7, '1', '1', '{}')"
            ),
            {"process": process},
        )
        await tx.execute(
            text("INSERT INTO sync.connections (name, state, token_fingerprint) VALUES ('default', 'ok', 'x')")
        )
    both = [ledgers.of(b"x", Settings(), engine, process, None) for _ in range(2)]
    for ledger in both:
        await ledger.write(lambda others: Entry(reserved=3, ages_s=(), is_waiting=False))
    async with transaction(engine) as tx:
        assert (await tx.execute(text("SELECT count(*) FROM sync.reservations"))).scalar_one() == 2
        (share,) = (await load_overview(tx)).connections[0].details.budget
    assert (share.daemon, share.calls) == ("a (7)", 6)
