"""From the commit of a change to its request, what is asked of the database is counted: each question is a trip."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.demo.simulator import Operation
from tests.support.mirror import Mirror
from tests.support.outbox import Outbox

LOOK = ["BEGIN", "SELECT", "COMMIT"]
CLAIM = ["BEGIN", "SELECT", "WITH", "UPDATE", "COMMIT"]
"""The look, which locks what it finds, the claim, and the database's position."""


@contextmanager
def trips(engine: AsyncEngine) -> Iterator[list[str]]:
    """The first words of all that is sent to the database meanwhile."""
    sent: list[str] = []

    def on_statement(*arguments: object) -> None:
        sent.append(str(arguments[2]).split()[0])

    def on_commit(*_arguments: object) -> None:
        sent.append("COMMIT")

    event.listen(engine.sync_engine, "before_cursor_execute", on_statement)
    event.listen(engine.sync_engine, "commit", on_commit)
    yield sent
    event.remove(engine.sync_engine, "before_cursor_execute", on_statement)
    event.remove(engine.sync_engine, "commit", on_commit)


@pytest.mark.long
async def test_a_change_is_found_and_claimed_in_three_questions(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "FIRST")
    await outbox.pusher.push()
    await outbox.add(voucher, "SECOND")
    until_sent: list[str] = []

    async def on_request(operation: Operation, body: object) -> None:
        if operation is Operation.ADD_CODES:
            until_sent.extend(sent)

    mirror.simulator.on_request = on_request
    with trips(mirror.connection.shared_engine) as sent:
        await outbox.pusher.push()
    assert until_sent == CLAIM
    assert "SAVEPOINT" not in sent, "what the call has done is written without any, while nothing is refused"


async def test_where_nothing_is_due_one_question_is_all(mirror: Mirror, outbox: Outbox) -> None:
    mirror.add_voucher()
    await outbox.refresh()
    await outbox.pusher.push()
    with trips(mirror.connection.shared_engine) as sent:
        await outbox.pusher.push()
    assert sent == LOOK * 2, "one of them for what a look may have passed"
