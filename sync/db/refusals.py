"""Services and vouchers that the API refuses to read: remembered with its words, and skipped until tried again."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import Exists, exists, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement

from sync.db.tables import refusals
from sync.model.errors import InvalidRequest

Kind = Literal["service", "voucher"]

REFUSAL_LASTS = timedelta(days=1)
"""After this time it is tried again."""


async def refuse(
    transaction: AsyncConnection, connection: str, kind: Kind, ids: Sequence[UUID], error: InvalidRequest
) -> None:
    """Remember that the API refused each of these."""
    row = {"connection": connection, "kind": kind, "reason": error.api_message, "request_id": error.request_id}
    statement = insert(refusals).values([{"id": refused, **row} for refused in ids])
    new = statement.excluded
    await transaction.execute(
        statement.on_conflict_do_update(
            index_elements=[refusals.c.connection, refusals.c.id],
            set_={"reason": new.reason, "request_id": new.request_id, "refused_at": func.now()},
        )
    )


async def refused_ids(transaction: AsyncConnection, connection: str, kind: Kind) -> set[UUID]:
    """What is to be skipped now."""
    statement = select(refusals.c.id).where(
        refusals.c.connection == connection, refusals.c.kind == kind, _is_in_force()
    )
    return set((await transaction.execute(statement)).scalars())


def is_refused(connection: ColumnElement[str], refused: ColumnElement[UUID]) -> Exists:
    """Whether a row of another statement is to be skipped now."""
    return exists().where(refusals.c.connection == connection, refusals.c.id == refused, _is_in_force())


def _is_in_force() -> ColumnElement[bool]:
    return refusals.c.refused_at > func.now() - REFUSAL_LASTS
