"""Pages of the API's listings, and how to read them to the end.

Pages run from the newest to the oldest; `Cursor` names the last item of a page and asks for what is older. The end is a
page without a cursor, or with fewer items than asked for (docs/mews-api.md, *Pagination*).

A record that cannot be stored never spoils its page: pages are decoded whole, and only where that fails record by
record, the unreadable ones kept as they came.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

import msgspec

from sync.core.api_errors import InvalidResponse
from sync.mews.nesting import prune
from sync.mews.records import Rejected

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

MAX_DIGITS = 1000

UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
"""What decoding raises for a body that is not what was asked for."""


class WireRecord(Protocol[R_co]):
    """A decoded JSON object that becomes a record, or raises ValueError."""

    def record(self) -> R_co: ...


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """One answer: the records, what could not be stored, and where the next page begins."""

    records: Sequence[R]
    rejected: list[Rejected]
    cursor: UUID | None

    def is_last(self, page_size: int) -> bool:
        """Whether nothing older is left, by the vendor's rule."""
        return self.cursor is None or len(self.records) + len(self.rejected) < page_size


class Listing(Generic[R]):
    """One list in the API's answers: the property it comes in and how its items are read.

    A body without a required list is no answer: reading it as an empty one would take a fault for 'nothing new'.
    `read_all`: a quicker way to read whole lists, which raises one of `UNREADABLE` for whatever it is not for.
    """

    def __init__(
        self,
        name: str,
        wire: type[WireRecord[R]],
        *,
        required: bool,
        read_all: Callable[[msgspec.Raw], Sequence[R]] | None = None,
    ) -> None:
        self._read_all = read_all
        self._name = name
        self._wire = wire
        self._required = required
        # `wire` is a type only at run time, which no checker can follow.
        self._items: msgspec.json.Decoder[list[WireRecord[R]]] = msgspec.json.Decoder(list[wire])  # type: ignore[valid-type]  # known at run time only

    def decode(self, body: bytes) -> Page[R]:
        """One page from the body of an answer; raises one of `UNREADABLE`."""
        try:
            envelope = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
            raw = envelope.get(self._name, msgspec.Raw(b"null"))
            records = [] if self._is_absent(bytes(raw) == b"null") else self._read(raw)
            cursor = msgspec.json.decode(envelope.get("Cursor", msgspec.Raw(b"null")), type=UUID | None)
        except UNREADABLE:
            return self._decode_one_by_one(body)
        return Page(records, [], cursor)

    def _read(self, items: msgspec.Raw) -> Sequence[R]:
        if self._read_all:
            with suppress(*UNREADABLE):
                return self._read_all(items)
        return [one.record() for one in self._items.decode(items)]

    def _decode_one_by_one(self, body: bytes) -> Page[R]:
        # The standard library's parser is slower and takes more: a lone surrogate, say, spoils a record, not the page.
        text = body.decode(errors="surrogateescape")
        envelope = msgspec.convert(_parse(text), dict[str, Any])
        items = envelope.get(self._name)
        cursor = msgspec.convert(envelope.get("Cursor"), UUID | None)
        if self._is_absent(items is None):
            return Page([], [], cursor)
        records: list[R] = []
        rejected: list[Rejected] = []
        for item in msgspec.convert(items, list[Any]):
            try:
                records.append(msgspec.convert(_with_instants(item), self._wire).record())
            except UNREADABLE as error:
                record_id = item.get("Id") if isinstance(item, dict) else None
                rejected.append(Rejected(self._name, text_id(record_id), json.dumps(item), str(error)))
        return Page(records, rejected, cursor)

    def _is_absent(self, is_null: bool) -> bool:
        if is_null and self._required:
            raise ValueError(f"the answer has no {self._name}")
        return is_null


def _with_instants(item: Any) -> Any:
    """A record with its instants read as ISO 8601, which the API promises; msgspec reads RFC 3339, a part of that."""
    if not isinstance(item, dict):
        return item
    return {name: _instant(value) if name.endswith("Utc") else value for name, value in item.items()}


def _instant(value: Any) -> Any:
    """As it is where it is none, which is told when the record is read."""
    # First as on a page that is read whole: of finer fractions than a microsecond one rounds, and the other cuts.
    with suppress(msgspec.ValidationError):
        return msgspec.convert(value, datetime)
    with suppress(ValueError, TypeError):
        return datetime.fromisoformat(value)
    return value


def _parse(text: str) -> Any:
    try:
        return json.loads(text, parse_int=_integer)
    except RecursionError:
        return json.loads(prune(text), parse_int=_integer)


def _integer(digits: str) -> int | str:
    """As a text where it is longer than Python converts; no field of the API takes either."""
    return int(digits) if len(digits) < MAX_DIGITS else digits


def text_id(value: object) -> str | None:
    """A rejected record's id, where it has one that can be shown."""
    return value if isinstance(value, str) and value.isprintable() else None


async def read_all(
    operation: str, read_page: Callable[[UUID | None], Awaitable[R]], next_cursor: Callable[[R], UUID | None]
) -> AsyncIterator[R]:
    """Pages until `next_cursor` says None. A cursor that comes twice is `InvalidResponse`, no loop for ever."""
    cursor: UUID | None = None
    trail = CursorTrail(operation)
    while True:
        page = await read_page(cursor)
        yield page
        cursor = next_cursor(page)
        if cursor is None:
            return
        trail.follow(cursor)


class CursorTrail:
    """The cursors of one listing, which raises `InvalidResponse` where they would lead round for ever.

    `restarts`: how often the listing may begin anew, or come by a cursor again: the record of a cursor that was changed
    meanwhile is the newest now, and the listing goes on from there.
    """

    def __init__(self, operation: str, *, restarts: int = 0) -> None:
        self._operation = operation
        self._restarts_left = restarts
        self._seen: set[UUID] = set()

    def follow(self, cursor: UUID | None) -> None:
        """Go on from a cursor; None: begin anew."""
        if cursor is None or cursor in self._seen:
            if not self._restarts_left:
                raise InvalidResponse(self._operation, "the pages of a listing go round in a circle")
            self._restarts_left -= 1
            self._seen.clear()
        if cursor is not None:
            self._seen.add(cursor)
