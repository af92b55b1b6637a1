"""One call carried out by the rules of the API, and its answer spoiled by a fault. No HTTP, no waiting."""

from dataclasses import replace
from typing import assert_never

from sync.demo.simulator import reads, writes
from sync.demo.simulator.answers import Answer, Refused, error, html_page
from sync.demo.simulator.behaviour import Behaviour
from sync.demo.simulator.faults import (
    Close,
    Fault,
    Hang,
    HiddenWrite,
    HtmlPage,
    MalformedJson,
    PartialAdd,
    PartialAnswer,
    RawBody,
    Status,
)
from sync.demo.simulator.instants import Clock
from sync.demo.simulator.requests import (
    AddCodes,
    DeleteCodes,
    GetCodes,
    GetEnterprises,
    GetServices,
    GetVouchers,
)
from sync.demo.simulator.validation import Call
from sync.demo.simulator.world import World

TITLES = {502: "502 Bad Gateway", 503: "503 Service Temporarily Unavailable", 504: "504 Gateway Time-out"}


def answer_call(world: World, behaviour: Behaviour, call: Call, fault: Fault | None, request_id: str) -> Answer | None:
    """Carries a call out, unless the fault comes first. None if there is to be no answer."""
    answer = None
    if fault is None or fault.processed:
        try:
            answer = _carry_out(world, behaviour, call, fault)
        except Refused as refused:
            answer = error(refused.status, refused.message, request_id, details=refused.details)
    return answer if fault is None else _spoil(answer, fault, request_id, world.clock)


def _carry_out(world: World, behaviour: Behaviour, call: Call, fault: Fault | None) -> Answer:
    request, token = call.accepted()
    hide_for_s = fault.hide_for_s if isinstance(fault, HiddenWrite) else behaviour.hide_writes_for_s
    match request:
        case GetEnterprises():
            return reads.enterprises(world, token, request)
        case GetServices():
            return reads.services(world, token, request)
        case GetVouchers():
            return reads.vouchers(world, token, request, behaviour)
        case GetCodes():
            return reads.codes(world, token, request, behaviour.activity)
        case AddCodes():
            only_first = fault.stored if isinstance(fault, PartialAdd) else None
            listed = fault.listed if isinstance(fault, PartialAnswer) else None
            return writes.add(
                world, token, request, behaviour, hide_for_s=hide_for_s, only_first=only_first, listed=listed
            )
        case DeleteCodes():
            return writes.delete(world, token, request, behaviour, hide_for_s=hide_for_s)
        case _:
            assert_never(request)


def _spoil(answer: Answer | None, fault: Fault, request_id: str, clock: Clock) -> Answer | None:
    """What the client gets, as far as a whole answer can tell; how it travels is up to the server."""
    match fault:
        case Close() | Hang():
            return None
        case Status():
            return _status(fault, request_id, clock)
        case HtmlPage():
            return html_page(200, "Welcome")
        case RawBody():
            return Answer(fault.status, fault.body, content_type=fault.content_type)
        case MalformedJson() if answer is not None:
            return replace(answer, body=answer.body[:-1] + b",,")
        case _:
            return answer


def _status(fault: Status, request_id: str, clock: Clock) -> Answer:
    headers = {} if fault.retry_after is None else {"Retry-After": fault.retry_after.header(clock)}
    if fault.is_html:
        answer = replace(html_page(fault.code, TITLES.get(fault.code, str(fault.code))), headers=headers)
    else:
        answer = error(fault.code, fault.message, request_id, headers=headers)
    return replace(answer, is_named=fault.named)
