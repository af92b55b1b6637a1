"""Arrays as PostgreSQL receives them, each made of its column in a few steps, not value by value.

psycopg looks at the type of every value, and makes a text or some bytes of each by a call of its own: 1.2 ms of a page
of 1000 codes, where this takes a fifth. The format is `array_send`'s, of one dimension: a head, then for each value its
length and its bytes, or -1 alone for null. Integers are big-endian.
"""

import struct
import sys
from array import array
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from operator import floordiv, is_, sub
from typing import Any
from uuid import UUID as UUID_

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types.array import ListBinaryDumper
from sqlalchemy import Boolean, DateTime, Dialect, Text
from sqlalchemy.dialects.postgresql import ARRAY, UUID
from sqlalchemy.types import TypeDecorator, TypeEngine

from sync.core.uuids import UuidColumn

EPOCH, MICROSECOND = datetime(2000, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
"""PostgreSQL counts instants from here, in these."""
HEAD, LENGTH, INSTANT = struct.Struct(">iiIii"), struct.Struct(">i"), struct.Struct(">iq")
NULL = LENGTH.pack(-1)
BOOLEAN_OID, TEXT_OID, TIMESTAMPTZ_OID, UUID_OID = 16, 25, 1184, 2950
"""Of PostgreSQL's own types, the same in every database."""


class PackedArray:
    """An array of one dimension as it goes over the line; what type it has, the statement says by a cast."""

    __slots__ = ("data",)

    def __init__(self, oid: int, count: int, body: bytes, *, has_null: bool = False) -> None:
        dimensions = 1 if count else 0
        head = HEAD.pack(dimensions, has_null, oid, count, 1)
        self.data = head + body if count else head[: -2 * LENGTH.size]


class _PackedArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: PackedArray) -> bytes:
        return obj.data


class Column(TypeDecorator[Sequence[Any]]):
    """An array with a value for each row of a page, in a statement's parameter."""

    impl = ARRAY
    cache_ok = True

    def __init__(self, item_type: TypeEngine[Any]) -> None:
        super().__init__(item_type)
        self.item_type = item_type  # by it, statements of different arrays are kept apart in SQLAlchemy's cache
        self._pack = next(pack for kind, pack in PACKED_BY if isinstance(item_type, kind))

    def bind_processor(self, dialect: Dialect) -> Callable[[Sequence[Any] | None], PackedArray | None]:
        """Not the array's own, which would make a list of a column first."""
        return lambda values: None if values is None else self._pack(values)


def send_binary(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    """Let a connection send arrays that are packed here, and lists in the binary format too."""
    # By default lists go as text, at nearly twice the processor time a page.
    connection.adapters.register_dumper(list, ListBinaryDumper)
    connection.adapters.register_dumper(PackedArray, _PackedArrayDumper)


def pack_uuids(column: Sequence[UUID_ | None]) -> PackedArray:
    """`uuid[]`."""
    if isinstance(column, UuidColumn):
        return PackedArray(UUID_OID, len(column), _with_length(column.packed, 16))
    head = LENGTH.pack(16)
    body = b"".join([NULL if one is None else head + one.bytes for one in column])
    return PackedArray(UUID_OID, len(column), body, has_null=_has_null(column))


def pack_texts(column: Sequence[str | None]) -> PackedArray:
    """`text[]`, in UTF-8, which every session of ours speaks."""
    if _has_null(column):
        values = [None if one is None else one.encode() for one in column]
        body = b"".join([NULL if one is None else LENGTH.pack(len(one)) + one for one in values])
        return PackedArray(TEXT_OID, len(column), body, has_null=True)
    texts = list(map(str.encode, column))  # type: ignore[arg-type]  # none is null
    lengths = map(LENGTH.pack, map(len, texts))
    return PackedArray(TEXT_OID, len(column), b"".join(chain.from_iterable(zip(lengths, texts, strict=True))))


def pack_instants(column: Sequence[datetime | None]) -> PackedArray:
    """`timestamptz[]`; TypeError for an instant without a zone."""
    nulls = sum(map(is_, column, repeat(None)))
    if nulls == len(column):
        return PackedArray(TIMESTAMPTZ_OID, nulls, NULL * nulls, has_null=nulls > 0)
    if nulls:
        body = b"".join([NULL if one is None else INSTANT.pack(8, (one - EPOCH) // MICROSECOND) for one in column])
        return PackedArray(TIMESTAMPTZ_OID, len(column), body, has_null=True)
    counts = array("q", map(floordiv, map(sub, column, repeat(EPOCH)), repeat(MICROSECOND)))
    if sys.byteorder == "little":
        counts.byteswap()
    return PackedArray(TIMESTAMPTZ_OID, len(column), _with_length(counts.tobytes(), 8))


def pack_booleans(column: Sequence[bool]) -> PackedArray:
    """`boolean[]`, without nulls."""
    return PackedArray(BOOLEAN_OID, len(column), _with_length(bytes(column), 1))


PACKED_BY: Sequence[tuple[type[TypeEngine[Any]], Callable[[Any], PackedArray]]] = (
    (UUID, pack_uuids),
    (Text, pack_texts),
    (DateTime, pack_instants),
    (Boolean, pack_booleans),
)


def _has_null(column: Sequence[object]) -> bool:
    # Not by `in`, which would ask each UUID, in Python, whether it is equal to None.
    return any(map(is_, column, repeat(None)))


def _with_length(values: bytes, width: int) -> bytes:
    """Values of `width` bytes each, every one with its length before it."""
    entry = LENGTH.size + width
    body = bytearray((LENGTH.pack(width) + bytes(width)) * (len(values) // width))
    for place in range(width):  # moves this byte of all values at once
        body[LENGTH.size + place :: entry] = values[place::width]
    return bytes(body)
