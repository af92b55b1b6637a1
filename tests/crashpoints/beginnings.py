"""How a scene begins: what it asks for is queued, and where it says so, carried out and lost from the database."""

from dataclasses import replace
from typing import Any

from sqlalchemy import text

from sync.demo.simulator import Operation, Status
from sync.postgres.engine import transaction
from tests.crashpoints.aftermath import UNFINISHED
from tests.crashpoints.scenes import Change, Scene
from tests.crashpoints.snapshots import put_back, take
from tests.support.mirror import Mirror
from tests.support.outbox import A_WHILE, SETTINGS, Outbox

A_MOMENT = 1e-4
"""Days; a pull does not see what the API made in the very same second."""
QUEUE = """
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, voucher_code_id, note, after_id)
SELECT :operation, CAST(:voucher AS uuid), :value, CAST(:code AS uuid), CAST(:note AS text),
       (SELECT max(before.id) FROM mews.voucher_code_outbox AS before WHERE before.note = :note AND :follows)
"""
TAKE_BACK = """
UPDATE mews.voucher_code_outbox SET status = 'cancelled' WHERE value = :value AND operation = :operation
"""
CALL_OF = {"add": Operation.ADD_CODES, "delete": Operation.DELETE_CODES}


async def begin(mirror: Mirror, scene: Scene, value: str) -> None:
    """Queue a scene's changes, all at once, of codes whose values begin with this one; where it says so, lose them."""
    voucher = next(iter(mirror.world.vouchers.values()))
    codes = {one: mirror.add_codes(voucher, [value + one], days_old=A_MOMENT)[0].id for one in scene.standing}
    mirror.simulator.behaviour.refused_values = {value + one for one in scene.refused}
    if any(one.by_id for one in scene.changes):
        await mirror.once()  # a code that nobody knows cannot be deleted by its id
    queued: list[dict[str, Any]] = []
    for one in scene.changes:
        code = {"voucher": voucher.id, "value": value + one.suffix, "code": None}
        by_id = {"voucher": None, "value": None, "code": codes.get(one.suffix)}
        row = {"operation": one.operation, "note": value, "follows": one.follows}
        queued.append(row | (by_id if one.by_id else code))
        if one.was_tried:
            await _queue(mirror, queued)
            await _try(mirror, one)
            queued = []
    await _queue(mirror, queued)
    if scene.adopted:
        await _carry_out_and_lose(mirror, scene, value)


async def _queue(mirror: Mirror, rows: list[dict[str, Any]]) -> None:
    """All at once."""
    async with transaction(mirror.connection.engine) as tx:
        for row in rows:
            await tx.execute(text(QUEUE), row)


async def _try(mirror: Mirror, change: Change) -> None:
    mirror.simulator.faults.script(CALL_OF[change.operation], Status(429))
    await _push(mirror)


async def _carry_out_and_lose(mirror: Mirror, scene: Scene, value: str) -> None:
    before = await take(mirror.database_url)
    for one in scene.changes:
        if one.took_back:
            await mirror.execute(TAKE_BACK, value=value + one.suffix, operation=one.operation)
    await _push(mirror)
    assert not await mirror.rows(UNFINISHED)
    mirror.clock.advance(A_WHILE)
    await put_back(mirror.database_url, before)


async def _push(mirror: Mirror) -> None:
    async with mirror.connected():
        outbox = Outbox(mirror)
        outbox.pusher = outbox.make_pusher(replace(SETTINGS, delete_guards=[]))
        await outbox.refresh()
        await outbox.be_due()
        await outbox.pusher.push()
