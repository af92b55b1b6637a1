"""From the bytes of a body to a call that the API may carry out, or to the reason why it refuses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from sync.demo.simulator.answers import JSON, Refused
from sync.demo.simulator.entities import Operation, Token
from sync.demo.simulator.instants import later_by_months, whole_seconds
from sync.demo.simulator.requests import BODIES, AddCodes, CodeParameters, Interval, Listing, Request, Write
from sync.demo.simulator.world import World

LONGEST_INTERVAL_MONTHS = 3
SECRETS = frozenset({"ClientToken", "AccessToken"})


@dataclass(slots=True)
class Call:
    """A request to an operation, as far as it could be understood.

    `body` is the decoded body without its tokens; `refusal` is set if the call must not be carried out;
    `violations` are the rules of the contract that it breaks.
    """

    operation: Operation
    body: dict[str, Any] = field(default_factory=dict)
    request: Request | None = None
    token: Token | None = None
    refusal: Refused | None = None
    violations: list[str] = field(default_factory=list)

    @property
    def cursor(self) -> UUID | None:
        """The Cursor that was sent."""
        return self.request.limitation.cursor if isinstance(self.request, Listing) else None

    def accepted(self) -> tuple[Request, Token]:
        """What to do, and for whom. Raises the refusal if there is one."""
        if self.refusal is not None or self.request is None or self.token is None:
            raise self.refusal or Refused(400, "Invalid request")
        return self.request, self.token


def read_call(world: World, operation: Operation, *, content_type: str, raw: bytes, max_bytes: int) -> Call:
    """Decodes and checks a body; what is wrong with it is in the call, never raised."""
    call = Call(operation)
    try:
        decoded = _decode(content_type, raw, max_bytes)
        call.body = {name: value for name, value in decoded.items() if name not in SECRETS}
        call.token = _token(world, decoded)
        call.request = _convert(operation, decoded)
        _check_rules(call.request)
        _authenticate(world, call.request, call.token, operation)
    except Refused as refused:
        call.refusal = refused
        if refused.is_violation:
            call.violations.append(refused.sentence)
    interval = call.request.updated_utc if isinstance(call.request, Listing) else None
    if interval is not None and interval.start_utc == interval.end_utc:
        call.violations.append("UpdatedUtc starts and ends at the same instant, which means equality")
    return call


def _malformed(details: str) -> Refused:
    return Refused(400, "Invalid request", details=details, is_violation=True)


def _decode(content_type: str, raw: bytes, max_bytes: int) -> dict[str, Any]:
    if len(raw) > max_bytes:
        raise Refused(413, "The request body is too large")
    if content_type != JSON:
        raise _malformed(f"the content type is not {JSON}")
    try:
        decoded = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed("the body is not JSON") from error
    if not isinstance(decoded, dict):
        raise _malformed("the body is not a JSON object")
    return decoded


def _token(world: World, decoded: Mapping[str, Any]) -> Token | None:
    text = decoded.get("AccessToken")
    return world.tokens.get(text) if isinstance(text, str) else None


def _convert(operation: Operation, decoded: Mapping[str, Any]) -> Request:
    try:
        return msgspec.convert(decoded, BODIES[operation])
    except msgspec.ValidationError as error:
        # msgspec names the place and what it wants there, and quotes only names of properties and words of an
        # enumeration: no token and no code's value gets into the message.
        raise _malformed(str(error)) from error


def _check_rules(request: Request) -> None:
    """The rules that a schema cannot say."""
    if (request.language_code is None) != (request.culture_code is None):
        raise _malformed("LanguageCode and CultureCode go together")
    if isinstance(request, Listing) and request.updated_utc is not None:
        _check_interval(request.updated_utc)
    if isinstance(request, AddCodes):
        for item in request.voucher_code_parameters:
            _check_validity(item)


def _check_interval(interval: Interval) -> None:
    start, end = interval.start_utc, interval.end_utc
    _check_utc("UpdatedUtc", start, end)
    if end < start:
        raise _malformed("UpdatedUtc ends before it starts")
    if end > later_by_months(start, LONGEST_INTERVAL_MONTHS):
        raise _malformed(f"UpdatedUtc is longer than {LONGEST_INTERVAL_MONTHS} months")


def _check_validity(item: CodeParameters) -> None:
    start, end = item.validity_start_utc, item.validity_end_utc
    _check_utc("the validity of a code", *(instant for instant in (start, end) if instant is not None))
    if start is not None and end is not None and whole_seconds(end) < whole_seconds(start):
        raise _malformed("the validity of a code ends before it starts")


def _check_utc(what: str, *instants: datetime) -> None:
    if any(instant.utcoffset() != timedelta(0) for instant in instants):
        raise _malformed(f"{what} is not in UTC")


def _authenticate(world: World, request: Request, token: Token | None, operation: Operation) -> None:
    if request.client_token != world.client_token:
        raise Refused(401, "Invalid ClientToken")
    if token is None:
        raise Refused(401, "Invalid AccessToken")
    if operation not in token.operations:
        raise Refused(401, "The AccessToken has no permission for this operation")
    if token.portfolio and isinstance(request, Write) and request.enterprise_id is None:
        raise Refused(400, "Invalid EnterpriseId", details="required with a portfolio token", is_violation=True)
