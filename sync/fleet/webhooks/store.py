"""Events that were accepted, and what came of them: each stands in the database before the vendor is answered."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, literal, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.fleet.event_tables import integration_events
from sync.fleet.tokens import TokenBox, TokenOf
from sync.fleet.webhooks.events import Action, Event

MAX_WAITING = 10_000
"""More than any integrator has hotels that change at once: what comes beyond it is a flood, and is not kept."""
KEPT_FOR = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event that is to be verified, and how often that was tried."""

    id: int
    event: Event
    attempts: int


async def accept(tx: AsyncConnection, box: TokenBox, body: bytes, event: Event, platform_address: str) -> bool:
    """Keep an event; one that was sent before is tried anew, if it is done with. False: too many wait already."""
    waiting = select(integration_events.c.id).where(integration_events.c.finished_at.is_(None)).limit(MAX_WAITING)
    if (await tx.execute(select(func.count()).select_from(waiting.subquery()))).scalar_one() >= MAX_WAITING:
        return False
    of = _token_of(event.integration_id, platform_address)
    values = {
        "action": event.action.value,
        "integration_id": event.integration_id,
        "enterprise_name": event.enterprise_name,
        "access_token": None if event.access_token is None else box.encrypt(event.access_token, of),
    }
    begun_anew = {"attempts": 0, "next_attempt_at": func.now(), "received_at": func.now()}
    statement = insert(integration_events).values(digest=hashlib.sha256(body).digest(), **values)
    again = values | begun_anew | {"finished_at": None, "outcome": None}
    is_finished = integration_events.c.finished_at.is_not(None)
    await tx.execute(
        statement.on_conflict_do_update(index_elements=[integration_events.c.digest], set_=again, where=is_finished)
    )
    # What waits for this integration to be enabled may go on by it.
    of_same = (integration_events.c.integration_id == event.integration_id, integration_events.c.finished_at.is_(None))
    await tx.execute(update(integration_events).where(*of_same).values(next_attempt_at=func.now()))
    return True


async def take_due(tx: AsyncConnection, box: TokenBox, platform_address: str, pause: timedelta) -> Waiting | None:
    """The next event that is due, which no other process takes within `pause`; None: there is none."""
    due = (integration_events.c.finished_at.is_(None), integration_events.c.next_attempt_at <= func.now())
    first = select(integration_events).where(*due).order_by(integration_events.c.next_attempt_at).limit(1)
    row = (await tx.execute(first.with_for_update(skip_locked=True))).mappings().one_or_none()
    if row is None:
        return None
    taken = {"attempts": integration_events.c.attempts + 1, "next_attempt_at": func.now() + pause}
    await tx.execute(update(integration_events).where(integration_events.c.id == row["id"]).values(taken))
    token, of = row["access_token"], _token_of(row["integration_id"], platform_address)
    read = None if token is None else box.decrypt(token, of)
    event = Event(Action(row["action"]), row["integration_id"], row["enterprise_name"], read)
    return Waiting(row["id"], event, row["attempts"])


async def finish(tx: AsyncConnection, event_id: int, outcome: str) -> None:
    """Note what came of an event; its token is forgotten."""
    ended = {"finished_at": func.now(), "access_token": None, "outcome": outcome}
    await tx.execute(update(integration_events).where(integration_events.c.id == event_id).values(ended))


async def put_off(tx: AsyncConnection, event_id: int, pause: timedelta, why: str) -> None:
    """Try an event again later."""
    later = {"next_attempt_at": func.now() + literal(pause), "outcome": why}
    await tx.execute(update(integration_events).where(integration_events.c.id == event_id).values(later))


async def prune(tx: AsyncConnection) -> int:
    """Forget what was done with long ago; how many events. One that is sent again after that is verified again."""
    statement = text("DELETE FROM sync.integration_events WHERE finished_at < now() - CAST(:kept AS interval)")
    return (await tx.execute(statement, {"kept": KEPT_FOR})).rowcount


def _token_of(integration_id: str, platform_address: str) -> TokenOf:
    return TokenOf(f"integration {integration_id}", platform_address, "access")
