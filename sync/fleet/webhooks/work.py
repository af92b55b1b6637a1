"""Works off one event: asks the API how things stand, and does what that says."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.connection.hotels import fingerprint
from sync.connection.tables import connections
from sync.core.api_errors import ApiError, Unauthorized
from sync.core.errors import DatabaseError, SettingsError, Stopped, VoucherSyncError
from sync.core.names import composed
from sync.fleet import changes
from sync.fleet.changes import MAX_NAME_LENGTH, NewConnection, access_token_of, why_no_name
from sync.fleet.registry import StoredConnection
from sync.fleet.tokens import TokenBox
from sync.fleet.webhooks import store
from sync.fleet.webhooks.decide import MAX_ATTEMPTS_OF_TOKEN, KnownConnection, Step, again_or_nothing, decide
from sync.fleet.webhooks.events import Action, Event
from sync.fleet.webhooks.store import Waiting
from sync.logger import structlog
from sync.postgres.engine import in_transaction

BY_MEWS = "Mews: "
"""How the reason of a pause begins that an event has made, and another one may end."""
TAKEN_FOR = timedelta(minutes=2)
"""So long nobody else tries an event that a process has taken, which may have died over it."""
FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(hours=1)

Ask = Callable[[str, StoredConnection | None], Awaitable[frozenset[UUID]]]
"""Which hotels the API shows for an access token, that of a connection if there is one. Raises `ApiError`, and
`Stopped` where the process ends."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Receiver:
    """What events are worked off with."""

    engine: AsyncEngine
    box: TokenBox
    platform_address: str
    ask: Ask


async def work_off(receiver: Receiver) -> bool:
    """Verify the next event and do what it counts for; False: none is due. Raises `DatabaseError`, and `Stopped` where
    the process ends, which leaves the event to whoever comes next.

    What fails for now, as where no key reads its token, is put off: it keeps no other event back, and is not lost.
    """
    waiting = await in_transaction(receiver.engine, partial(store.take_due, pause=TAKEN_FOR))
    if waiting is None:
        return False
    try:
        step, words = await _verify(receiver, waiting)
    except Stopped:
        await in_transaction(receiver.engine, partial(store.give_back, event_id=waiting.id))
        raise
    except ApiError as error:
        step, words = Step.AGAIN, type(error).__name__
    except DatabaseError as error:
        step, words = Step.AGAIN, str(error)
    except SettingsError as error:
        step, words = again_or_nothing(waiting.attempts, str(error), MAX_ATTEMPTS_OF_TOKEN)
    except VoucherSyncError as error:  # also of two hotels of one name that join at once, of which the other was first
        step, words = again_or_nothing(waiting.attempts, str(error))
    if step is Step.AGAIN:
        pause = min(FIRST_PAUSE * 2 ** min(waiting.attempts, 10), LONGEST_PAUSE)
        note = partial(store.put_off, event_id=waiting.id, pause=pause, why=words)
    else:
        note = partial(store.finish, event_id=waiting.id, outcome=f"{step}: {words}")
    await in_transaction(receiver.engine, note)
    log.info("integration_event", action=waiting.event.action.value, step=step.value, why=words)
    return True


async def _verify(receiver: Receiver, waiting: Waiting) -> tuple[Step, str]:
    event = waiting.opened(receiver.box, receiver.platform_address)
    stored = await in_transaction(receiver.engine, partial(_find, receiver=receiver, event=event))
    token = event.access_token or (stored.token if stored else None)
    hotels = await _hotels_of(receiver, token, stored)
    known = None
    if stored:
        keeps_token = await _keeps_token(receiver, event, stored)
        known = KnownConnection(stored.hotels, keeps_token, is_paused_by_mews(stored.row))
    brings_token = event.access_token is not None
    step, words = decide(event.action, known, hotels, brings_token=brings_token, attempts=waiting.attempts)
    act = partial(_act, receiver=receiver, event=event, stored=stored, step=step)
    if not await in_transaction(receiver.engine, act):
        return Step.AGAIN, "its tokens were changed meanwhile"
    return step, words


@dataclass(frozen=True, slots=True)
class _Stored:
    row: StoredConnection
    token: str | None
    hotels: frozenset[UUID] | None


async def _hotels_of(receiver: Receiver, token: str | None, stored: _Stored | None) -> frozenset[UUID] | None:
    """What the API shows for a token; None where it refuses it, or there is none."""
    if token is not None:
        with suppress(Unauthorized):
            return await receiver.ask(token, stored.row if stored else None)
    return None


async def _keeps_token(receiver: Receiver, event: Event, stored: _Stored) -> bool:
    """Whether the connection's token stays: the event brings it, or the first one, late, while the API takes both. To
    go back to that would be an end once the vendor revokes it.
    """
    if event.action is not Action.CREATED or event.access_token == stored.token:
        return event.access_token == stored.token
    return await _hotels_of(receiver, stored.token, stored) is not None


async def _find(tx: AsyncConnection, receiver: Receiver, event: Event) -> _Stored | None:
    """The connection of an integration: the one that came with it, or has the token that the event brings."""
    is_its = connections.c.integration_id == event.integration_id
    if event.access_token is not None:
        # Known once its token was seen to fit: to read each token for this would keep the loop from all else.
        token = fingerprint(receiver.platform_address, event.access_token)
        is_its = or_(is_its, connections.c.token_fingerprint == token)
    of_address = (connections.c.platform_address == receiver.platform_address, connections.c.removed_at.is_(None))
    is_stored = (connections.c.access_token.is_not(None), is_its)
    columns = (*(connections.c[name] for name in StoredConnection.__slots__), connections.c.enterprise_ids)
    came_with_it_first = (connections.c.integration_id == event.integration_id).desc().nulls_last()
    query = select(*columns).where(*of_address, *is_stored).order_by(came_with_it_first).limit(1)
    row = (await tx.execute(query)).mappings().one_or_none()
    if row is None:
        return None
    found = StoredConnection(**{name: row[name] for name in StoredConnection.__slots__})
    hotels = row["enterprise_ids"]
    return _Stored(found, access_token_of(receiver.box, found), None if hotels is None else frozenset(hotels))


def is_paused_by_mews(row: StoredConnection) -> bool:
    """Whether an event has paused it, and not a person."""
    return row.paused_at is not None and (row.paused_because or "").startswith(BY_MEWS)


async def _act(tx: AsyncConnection, receiver: Receiver, event: Event, stored: _Stored | None, step: Step) -> bool:
    """Do it; False where somebody has given the connection another token since it was asked about: nothing is done."""
    if step is Step.ADD and event.access_token is not None:
        name = await _name_for(tx, event)
        new = NewConnection(name, receiver.platform_address, event.access_token, None, event.integration_id)
        await changes.add(tx, receiver.box, [new], "webhook")
    if stored is None:
        return True
    name = stored.row.name
    row = await changes.require(tx, name)  # anew: a person may have paused it while the API was asked
    if row.access_token != stored.row.access_token:
        return False
    if event.access_token is not None and row.integration_id is None and step is not Step.AGAIN:
        await _follow_integration(tx, row, event.integration_id)
    if step is Step.ROTATE and event.access_token is not None:
        await changes.rotate(tx, receiver.box, row, NewConnection(name, receiver.platform_address, event.access_token))
    if step in (Step.RESUME, Step.ROTATE) and is_paused_by_mews(row):
        await changes.resume(tx, name)
    if step is Step.PAUSE and row.paused_at is None:
        await changes.pause(tx, name, f"{BY_MEWS}{event.action.value}")
    if step is Step.REMOVE:
        await _remove(tx, row)
    return True


async def _follow_integration(tx: AsyncConnection, row: StoredConnection, integration_id: str) -> None:
    """Have a connection that was added by a command follow its integration from now on.

    One that was removed and had come with it lets go of it: no two can have it, and this one's hotel would join anew.
    """
    of_address = (connections.c.platform_address == row.platform_address, connections.c.removed_at.is_not(None))
    gone = update(connections).where(*of_address, connections.c.integration_id == integration_id)
    await tx.execute(gone.values(integration_id=None))
    known = update(connections).where(connections.c.name == row.name)
    await tx.execute(known.values(integration_id=integration_id))


async def _remove(tx: AsyncConnection, row: StoredConnection) -> None:
    """Remove a connection, or pause it where changes are not finished: somebody has to say what becomes of them."""
    try:
        await changes.remove(tx, row.name)
    except VoucherSyncError:
        if row.paused_at is None or is_paused_by_mews(row):  # else an event could end what a person has begun
            await changes.pause(tx, row.name, f"{BY_MEWS}the integration was deleted, and changes are not finished")


async def _name_for(tx: AsyncConnection, event: Event) -> str:
    """What a new connection is called: as its hotel, and where that cannot be with the integration behind it."""
    names = select(connections.c.name, connections.c.integration_id)
    taken = {row.name: row.integration_id for row in await tx.execute(names)}
    for name, integration_id in taken.items():
        if integration_id == event.integration_id:
            return str(name)  # it was removed, and comes back
    integration_id = composed(event.integration_id).lstrip("- ")
    wanted = (event.enterprise_name or "").lstrip("- ")[:MAX_NAME_LENGTH].strip() or integration_id.strip()
    if wanted not in taken and not why_no_name(wanted):
        return wanted
    return f"{wanted[:60].strip()} {integration_id}"[:MAX_NAME_LENGTH].strip()
