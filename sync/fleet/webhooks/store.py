"""Events that were accepted, and what came of them: each stands in the database before the vendor is answered."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, func, literal, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.fleet.event_tables import integration_events
from sync.fleet.tokens import TokenBox, TokenOf
from sync.fleet.webhooks.decide import Step
from sync.fleet.webhooks.events import Action, Event

MAX_WAITING = 10_000
"""More than any integrator has hotels that change at once: what comes beyond it is a flood, and is not kept."""
KEPT_FOR = timedelta(days=30)
COUNTED = (Step.ADD, Step.ROTATE)
"""What becomes of an event whose token has counted."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event that is to be verified, without its token, which `ciphertext` holds, and how often that was tried."""

    id: int
    event: Event
    attempts: int
    ciphertext: bytes | None = None

    def opened(self, box: TokenBox, platform_address: str) -> Event:
        """The event with its token. `SettingsError` where no key reads it."""
        if self.ciphertext is None:
            return self.event
        token = box.decrypt(self.ciphertext, _token_of(self.event.integration_id, platform_address))
        return replace(self.event, access_token=token)


async def accept(
    tx: AsyncConnection, box: TokenBox, events: Mapping[bytes, Event], platform_address: str
) -> Collection[bytes]:
    """Keep events, by what was sent; which of them are kept: too many may wait already.

    One that was sent before is tried anew, if it is done with and its token has not counted already: what has come
    since, from the vendor or a person, must not be undone by its replay.
    """
    waiting = select(integration_events.c.id).where(integration_events.c.finished_at.is_(None)).limit(MAX_WAITING)
    room = MAX_WAITING - (await tx.execute(select(func.count()).select_from(waiting.subquery()))).scalar_one()
    kept = dict(islice(events.items(), room))
    if not kept:
        return kept
    # In one order whoever keeps them, so that two who keep the same do not wait for each other.
    rows = sorted((_row(box, *one, platform_address) for one in kept.items()), key=itemgetter("digest"))
    statement = insert(integration_events).values(rows)
    told = {name: statement.excluded[name] for name in rows[0] if name != "digest"}
    begun_anew = {"attempts": 0, "next_attempt_at": func.now(), "received_at": func.now()}
    again = told | begun_anew | {"finished_at": None, "outcome": None}
    outcome = integration_events.c.outcome
    is_to_try = integration_events.c.finished_at.is_not(None) & ~or_(
        *(outcome.startswith(f"{one}:") for one in COUNTED)
    )
    await tx.execute(
        statement.on_conflict_do_update(index_elements=[integration_events.c.digest], set_=again, where=is_to_try)
    )
    # What waits for these integrations to be enabled may go on by it.
    integration_ids = {event.integration_id for event in kept.values()}
    of_same = (integration_events.c.integration_id.in_(integration_ids), integration_events.c.finished_at.is_(None))
    await tx.execute(update(integration_events).where(*of_same).values(next_attempt_at=func.now()))
    return kept


def _row(box: TokenBox, body: bytes, event: Event, platform_address: str) -> dict[str, Any]:
    of, token = _token_of(event.integration_id, platform_address), event.access_token
    return {
        "digest": hashlib.sha256(body).digest(),
        "action": event.action.value,
        "integration_id": event.integration_id,
        "enterprise_name": event.enterprise_name,
        "access_token": None if token is None else box.encrypt(token, of),
    }


async def take_due(tx: AsyncConnection, pause: timedelta) -> Waiting | None:
    """The next event that is due, which no other process takes within `pause`; None: there is none.

    One that a newer release has accepted, and this one does not know, is left to that.
    """
    due = (
        integration_events.c.finished_at.is_(None),
        integration_events.c.next_attempt_at <= func.now(),
        integration_events.c.action.in_([action.value for action in Action]),
    )
    first = select(integration_events).where(*due).order_by(integration_events.c.next_attempt_at).limit(1)
    row = (await tx.execute(first.with_for_update(skip_locked=True))).mappings().one_or_none()
    if row is None:
        return None
    taken = {"attempts": integration_events.c.attempts + 1, "next_attempt_at": func.now() + pause}
    await tx.execute(update(integration_events).where(integration_events.c.id == row["id"]).values(taken))
    event = Event(Action(row["action"]), row["integration_id"], row["enterprise_name"])
    return Waiting(row["id"], event, row["attempts"], row["access_token"])


async def finish(tx: AsyncConnection, event_id: int, outcome: str) -> None:
    """Note what came of an event, unless another process has; its token is forgotten."""
    ended = {"finished_at": func.now(), "access_token": None, "outcome": outcome}
    await tx.execute(update(integration_events).where(*_waits(event_id)).values(ended))


async def put_off(tx: AsyncConnection, event_id: int, pause: timedelta, why: str) -> None:
    """Try an event again later."""
    later = {"next_attempt_at": func.now() + literal(pause), "outcome": why}
    await tx.execute(update(integration_events).where(*_waits(event_id)).values(later))


async def give_back(tx: AsyncConnection, event_id: int) -> None:
    """Let whoever comes next try an event at once: who took it ends before it has tried."""
    as_before = {"attempts": integration_events.c.attempts - 1, "next_attempt_at": func.now()}
    await tx.execute(update(integration_events).where(*_waits(event_id)).values(as_before))


async def reencrypt(tx: AsyncConnection, box: TokenBox) -> None:
    """Encrypt the tokens of what waits with the first key, but those that no key reads: they are tried as they are."""
    kept = select(integration_events.c.id, integration_events.c.access_token).where(
        integration_events.c.access_token.is_not(None)
    )
    for row in (await tx.execute(kept.with_for_update())).all():
        if (anew := box.reencrypted(row.access_token)) is not None:
            of_row = integration_events.c.id == row.id
            await tx.execute(update(integration_events).where(of_row).values(access_token=anew))


async def prune(tx: AsyncConnection) -> int:
    """Forget what was done with long ago; how many events. One that is sent again after that is verified again."""
    statement = text("DELETE FROM sync.integration_events WHERE finished_at < now() - CAST(:kept AS interval)")
    return (await tx.execute(statement, {"kept": KEPT_FOR})).rowcount


def _waits(event_id: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return integration_events.c.id == event_id, integration_events.c.finished_at.is_(None)


def _token_of(integration_id: str, platform_address: str) -> TokenOf:
    return TokenOf(f"integration {integration_id}", platform_address, "access")
