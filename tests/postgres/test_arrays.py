"""Arrays that are packed here arrive as those that psycopg makes."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Boolean, Text, bindparam, select
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.types import TypeEngine

from sync.core.uuids import UuidColumn
from sync.postgres.arrays import Column
from sync.postgres.metadata import TIMESTAMP

IDS = [uuid4() for _ in range(300)]
NOON = datetime(2026, 6, 1, 12, 0, 0, 123_456, UTC)
EXTREMES = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)]
COLUMNS: list[tuple[TypeEngine[Any], Sequence[Any]]] = [
    (UUID(), []),
    (UUID(), IDS),
    (UUID(), [None, *IDS[:2], None]),
    (UUID(), UuidColumn(list(map(str, IDS)))),
    (Text(), []),
    (Text(), ["", "A", "🎉" * 128, "a'b\"{},NULL\\", "NULL"]),
    (Text(), [None, "A", None, "ß"]),
    (Text(), [None, None]),
    (TIMESTAMP, []),
    (TIMESTAMP, [*EXTREMES, NOON, NOON.astimezone(timezone(timedelta(hours=-7)))]),
    (TIMESTAMP, [None, *EXTREMES, None]),
    (TIMESTAMP, [None] * 300),
    (Boolean(), []),
    (Boolean(), [True, False, True]),
]


@pytest.mark.parametrize(("item_type", "column"), COLUMNS, ids=lambda one: type(one).__name__)
async def test_what_is_packed_comes_back(
    engine: AsyncEngine, item_type: TypeEngine[Any], column: Sequence[Any]
) -> None:
    async with engine.begin() as tx:
        row = (await tx.execute(select(bindparam("column", type_=Column(item_type))), {"column": column})).one()
    assert row[0] == list(column)


def test_an_instant_without_a_zone_is_a_fault_of_ours() -> None:
    pack = Column(TIMESTAMP).bind_processor(None)  # type: ignore[arg-type]  # it does not depend on one
    with pytest.raises(TypeError):
        pack([NOON.replace(tzinfo=None)])
