"""The two writes. Every rule is checked before anything changes: one bad item refuses the whole call."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from sync.demo.simulator import wire
from sync.demo.simulator.answers import Answer, Refused
from sync.demo.simulator.behaviour import Behaviour
from sync.demo.simulator.entities import Code, Token, Voucher
from sync.demo.simulator.instants import whole_seconds
from sync.demo.simulator.requests import AddCodes, CodeParameters, DeleteCodes, Write
from sync.demo.simulator.world import World


def add(
    world: World,
    token: Token,
    request: AddCodes,
    behaviour: Behaviour,
    *,
    hide_for_s: float,
    only_first: int | None,
    listed: int | None,
) -> Answer:
    """`voucherCodes/add`. With `only_first`, so many items are stored and then the server fails.

    `listed`: how many of the new codes the answer lists; None: all.
    """
    _check_enterprise(token, request)
    items = request.voucher_code_parameters
    for item in items:
        voucher = world.vouchers.get(item.voucher_id)
        if voucher is None or not voucher.is_active or not _may_write(token, request, voucher):
            raise Refused(400, "Invalid VoucherId")
    _check_values(world, items, behaviour)
    now = world.now()
    codes = [_new_code(world, item, behaviour, now) for item in items[:only_first]]
    world.codes.put(codes, hidden_for_s=hide_for_s)
    if only_first is not None:
        raise Refused(500, "Internal server error")
    if behaviour.shuffle_added:
        world.rng.shuffle(codes)
    shown = [wire.code(code, behaviour.activity) for code in codes[:listed]]
    return Answer(200, msgspec.json.encode({"VoucherCodes": shown}), items=len(shown))


def delete(world: World, token: Token, request: DeleteCodes, behaviour: Behaviour, *, hide_for_s: float) -> Answer:
    """`voucherCodes/delete`."""
    _check_enterprise(token, request)
    doomed = []
    for code_id in dict.fromkeys(request.voucher_code_ids):
        code = world.codes.truth.get(code_id)
        if code is not None and code.is_active and _may_write(token, request, world.vouchers[code.voucher_id]):
            doomed.append(code)
        elif not behaviour.lenient_delete:
            raise Refused(400, "Invalid VoucherCodeIds")
    now = world.now()
    deleted = [msgspec.structs.replace(code, is_active=False, updated_utc=now) for code in doomed]
    world.codes.put(deleted, hidden_for_s=hide_for_s)
    return Answer(200, b"{}", items=len(deleted))


def _check_enterprise(token: Token, request: Write) -> None:
    if token.portfolio and request.enterprise_id not in token.enterprise_ids:
        raise Refused(400, "Invalid EnterpriseId")


def _may_write(token: Token, request: Write, voucher: Voucher) -> bool:
    """Whether the voucher is the enterprise's for which the call is made: the token's own, or the one it names."""
    return token.sees(voucher) and (not token.portfolio or voucher.enterprise_id == request.enterprise_id)


def _check_values(world: World, items: Sequence[CodeParameters], behaviour: Behaviour) -> None:
    if any(item.value in behaviour.refused_values for item in items):
        raise Refused(403, "A voucher code cannot be used because of its value")
    if behaviour.allow_duplicates:
        return
    taken: set[tuple[UUID, str]] = set()
    for item in items:
        key = (item.voucher_id, item.value)
        if key in taken or world.codes.has_active(*key):
            raise Refused(403, "A voucher code with the same value already exists")
        taken.add(key)


def _new_code(world: World, item: CodeParameters, behaviour: Behaviour, now: datetime) -> Code:
    start, end = item.validity_start_utc, item.validity_end_utc
    return Code(
        id=world.new_id(),
        voucher_id=item.voucher_id,
        value=item.value,
        validity_start_utc=start and whole_seconds(start),
        validity_end_utc=end and whole_seconds(end),
        created_utc=now,
        updated_utc=now if behaviour.stamp_added else None,
    )
