"""The four `getAll` operations: what a token sees, and one page of it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar
from uuid import UUID

from sync.demo.simulator import paging, wire
from sync.demo.simulator.answers import Answer, Refused
from sync.demo.simulator.behaviour import Behaviour
from sync.demo.simulator.entities import Code, Dated, Enterprise, Owned, Token
from sync.demo.simulator.requests import GetCodes, GetEnterprises, GetServices, GetVouchers, Listing
from sync.demo.simulator.wire import Activity
from sync.demo.simulator.world import World

Record = TypeVar("Record", bound=Owned)


def enterprises(world: World, token: Token, request: GetEnterprises) -> Answer:
    """`enterprises/getAll`."""
    page = _page(_chosen_enterprises(world, token, request).values(), world.enterprises, token, request)
    return _answer({"Enterprises": [wire.enterprise(record) for record in page]}, page)


def services(world: World, token: Token, request: GetServices) -> Answer:
    """`services/getAll`."""
    homes = _chosen_enterprises(world, token, request)
    matching = [
        service
        for service in _chosen(world.services, request.service_ids, token, "ServiceIds").values()
        if service.enterprise_id in homes and request.service_type in {None, service.type}
    ]
    page = _page(matching, world.services, token, request)
    return _answer({"Services": [wire.service(record) for record in page]}, page)


def vouchers(world: World, token: Token, request: GetVouchers, behaviour: Behaviour) -> Answer:
    """`vouchers/getAll`. One service that cannot carry vouchers spoils the whole call."""
    homes = _chosen_enterprises(world, token, request)
    carriers = _chosen(world.services, request.service_ids, token, "ServiceIds")
    if not all(service.carries_vouchers for service in carriers.values()):
        raise Refused(400, "Invalid ServiceIds")
    states = request.activity_states or ["Active", "Deleted"]
    matching = [
        voucher
        for voucher in _chosen(world.vouchers, request.voucher_ids, token, "VoucherIds").values()
        if voucher.service_id in carriers
        and voucher.enterprise_id in homes
        and ("Active" if voucher.is_active else "Deleted") in states
    ]
    if request.voucher_code_values is not None:
        usable_at = world.clock() if behaviour.values_usable_only else None
        holders = world.codes.readable().holders(
            request.voucher_code_values, any_case=behaviour.values_any_case, usable_at=usable_at
        )
        matching = [voucher for voucher in matching if voucher.id in holders]
    page = _page(matching, world.vouchers, token, request)
    lists: wire.Lists = {}
    if request.extent.vouchers:
        lists["Vouchers"] = [wire.voucher(record, behaviour.activity) for record in page]
    if request.extent.voucher_assignments:
        assigned = [assignment for record in page for assignment in world.assignments.get(record.id, ())]
        lists["VoucherAssignments"] = [wire.assignment(record) for record in assigned]
    return _answer(lists, page)


def codes(world: World, token: Token, request: GetCodes, activity: Activity) -> Answer:
    """`voucherCodes/getAll`."""
    homes = _chosen_enterprises(world, token, request)
    chosen = _chosen(world.vouchers, request.voucher_ids, token, "VoucherIds")
    voucher_ids = {voucher.id for voucher in chosen.values() if voucher.enterprise_id in homes}
    timeline = world.codes.readable()
    low, high = paging.bounds(request, lambda cursor: _if_seen(world, token, timeline.get(cursor)))
    count = request.limitation.count
    if request.voucher_code_ids is None:
        page = timeline.newest(voucher_ids, low=low, high=high, count=count)
    else:
        found = [timeline.get(code_id) for code_id in _known_codes(world, token, request.voucher_code_ids)]
        matching = [code for code in found if code is not None and code.voucher_id in voucher_ids]
        page = paging.newest(matching, low, high, count)
    return _answer({"VoucherCodes": [wire.code(record, activity) for record in page]}, page)


def _chosen(
    records: Mapping[UUID, Record], ids: Iterable[UUID] | None, token: Token, parameter: str
) -> Mapping[UUID, Record]:
    """The records with these ids, or all in the token's scope if no ids were given."""
    if ids is None:
        return {record.id: record for record in records.values() if token.sees(record)}
    chosen = {}
    for record_id in ids:
        record = records.get(record_id)
        if record is None or not token.sees(record):
            raise Refused(400, f"Invalid {parameter}")
        chosen[record_id] = record
    return chosen


def _chosen_enterprises(world: World, token: Token, request: Listing) -> Mapping[UUID, Enterprise]:
    return _chosen(world.enterprises, request.enterprise_ids, token, "EnterpriseIds")


def _page(matching: Iterable[Record], known: Mapping[UUID, Record], token: Token, request: Listing) -> Sequence[Record]:
    def find(cursor: UUID) -> Record | None:
        record = known.get(cursor)
        return record if record is not None and token.sees(record) else None

    low, high = paging.bounds(request, find)
    return paging.newest(matching, low, high, request.limitation.count)


def _if_seen(world: World, token: Token, code: Code | None) -> Code | None:
    """The code, unless it is outside the token's scope."""
    return code if code is not None and token.sees(world.vouchers[code.voucher_id]) else None


def _known_codes(world: World, token: Token, ids: Iterable[UUID]) -> Iterable[UUID]:
    """The ids without repetitions. A code that is written but not yet readable is known all the same."""
    once = dict.fromkeys(ids)
    if any(_if_seen(world, token, world.codes.truth.get(code_id)) is None for code_id in once):
        raise Refused(400, "Invalid VoucherCodeIds")
    return once


def _answer(lists: wire.Lists, page: Sequence[Dated]) -> Answer:
    # The documentation's rule: the cursor is the last item's id, null only when nothing was returned.
    return wire.page(lists, items=len(page), cursor=page[-1].id if page else None)
