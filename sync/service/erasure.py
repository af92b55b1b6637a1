"""Erasing a code's text from all that this database keeps beside the mirror, for data protection.

The mirror keeps what the API has: it would be read again. Rows stay, with their ids and what became of them, and say
that they were erased; texts of people and of the API that quote the code have `***` in its place.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, Table, and_, func, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.core.errors import VoucherSyncError
from sync.core.plurals import plural
from sync.mirror.tables import rejected_records, voucher_code_versions, voucher_codes
from sync.outbox.claims import as_daemon
from sync.outbox.listing import HIDDEN
from sync.outbox.tables import UNFINISHED, outbox, outbox_attempts

ERASED = "[erased]"
"""In place of a code's text."""
MAX_NAMED = 20


@dataclass(frozen=True, slots=True)
class Erasure:
    """What is erased: rows of the outbox with the code; idempotency keys that hold it; texts that quote it; earlier
    versions of it; records that could not be stored; and codes that the API has no more. `kept`: codes of this text
    that the API has, in the mirror.
    """

    changes: int
    keys: int
    texts: int
    versions: int
    rejected_records: int
    missing_codes: int
    kept: int

    @property
    def total(self) -> int:
        """Everything that is erased."""
        return int(sum(asdict(self).values())) - self.kept


async def erase(engine: AsyncEngine, value: str, *, dry_run: bool) -> Erasure:
    """Erase a code's text in one transaction, or with `dry_run` find out what that would erase.

    `VoucherSyncError` where a change of the code is not finished: without its text it could not be sent; and where
    something on a table keeps its rows as they are.
    """
    quoted = Quoted(value)
    async with as_daemon(engine) as tx:
        await _refuse_unfinished(tx, value, quoted)
        erasure = Erasure(
            changes=await _erase_changes(tx, value),
            keys=await _erase_keys(tx, quoted),
            texts=await _erase_texts(tx, quoted),
            versions=await _erase_value(tx, voucher_code_versions, value),
            rejected_records=await _erase_rejected(tx, quoted),
            missing_codes=await _erase_value(tx, voucher_codes, value, voucher_codes.c.missing_since.is_not(None)),
            kept=await _count(tx, voucher_codes, voucher_codes.c.value == value),
        )
        await _require_gone(tx, value)
        if dry_run:
            await tx.rollback()
    return erasure


class Quoted:
    """A code's text where it stands by itself in another one: `AB1` is no part of `AB12`."""

    def __init__(self, value: str) -> None:
        literally = "".join(one if one.isalnum() else f"\\{one}" for one in value)
        self._pattern = f"(?<![[:alnum:]]){literally}(?![[:alnum:]])"
        self._in_python = re.compile(rf"(?<![^\W_]){re.escape(value)}(?![^\W_])")

    def is_in(self, column: ColumnElement[Any]) -> ColumnElement[bool]:
        """Whether it stands in a text of the database's."""
        return column.regexp_match(self._pattern)

    def without(self, column: ColumnElement[Any]) -> ColumnElement[str]:
        """That text without it."""
        return func.regexp_replace(column, self._pattern, HIDDEN, "g")

    def is_in_json(self, raw: str) -> bool:
        """Whether it stands in a text of JSON, however that writes it."""
        try:
            content: object = json.loads(raw)
        except ValueError:
            content = raw
        return any(self._in_python.search(one) for one in _texts(content))


def _texts(content: object) -> Iterator[str]:
    match content:
        case str():
            yield content
        case dict():
            yield from (text for one in content.items() for text in _texts(list(one)))
        case list():
            yield from (text for one in content for text in _texts(one))


async def _refuse_unfinished(tx: AsyncConnection, value: str, quoted: Quoted) -> None:
    holds_it = or_(outbox.c.value == value, quoted.is_in(outbox.c.idempotency_key))
    unfinished = select(outbox.c.id).where(holds_it, outbox.c.status.in_(UNFINISHED))
    ids = (await tx.execute(unfinished.order_by(outbox.c.id).limit(MAX_NAMED + 1))).scalars().all()
    if ids:
        named = ", ".join(map(str, ids[:MAX_NAMED])) + (", ..." if len(ids) > MAX_NAMED else "")
        raise VoucherSyncError(
            f"nothing is erased: changes of this code are not finished; cancel them or wait for their end: row {named}"
        )


async def _erase_changes(tx: AsyncConnection, value: str) -> int:
    erased = update(outbox).where(outbox.c.value == value).values(value=ERASED, erased_at=func.now())
    return _count_of(await tx.execute(erased))


async def _erase_keys(tx: AsyncConnection, quoted: Quoted) -> int:
    """Who inserts the same change under such a key once more queues it anew."""
    new_key = func.pg_catalog.concat(ERASED, " ", outbox.c.id)
    holds_it = (quoted.is_in(outbox.c.idempotency_key), outbox.c.status.not_in(UNFINISHED))
    return _count_of(await tx.execute(update(outbox).where(*holds_it).values(idempotency_key=new_key)))


async def _erase_texts(tx: AsyncConnection, quoted: Quoted) -> int:
    """Notes, and the API's words; of whichever code the row is, which may be told of in another's."""
    texts: Sequence[tuple[Table, Sequence[str]]] = (
        (outbox, ("note", "last_error")),
        (outbox_attempts, ("message",)),
        (rejected_records, ("reason",)),
    )
    count = 0
    for table, names in texts:
        columns = [table.c[name] for name in names]
        without = {column.name: quoted.without(column) for column in columns}
        count += _count_of(await tx.execute(update(table).where(or_(*map(quoted.is_in, columns))).values(without)))
    return count


async def _erase_value(tx: AsyncConnection, table: Table, value: str, *conditions: ColumnElement[bool]) -> int:
    return _count_of(await tx.execute(update(table).where(table.c.value == value, *conditions).values(value=ERASED)))


async def _erase_rejected(tx: AsyncConnection, quoted: Quoted) -> int:
    """Their digests stay: without those each would come back with the next reading."""
    key = (rejected_records.c.connection, rejected_records.c.digest)
    rows = (await tx.execute(select(*key, rejected_records.c.raw))).all()
    holding = [(row.connection, row.digest) for row in rows if quoted.is_in_json(row.raw)]
    if not holding:
        return 0
    return _count_of(await tx.execute(update(rejected_records).where(tuple_(*key).in_(holding)).values(raw=ERASED)))


async def _require_gone(tx: AsyncConnection, value: str) -> None:
    """A trigger or policy may leave rows out without a word."""
    is_missing = and_(voucher_codes.c.value == value, voucher_codes.c.missing_since.is_not(None))
    texts: Sequence[tuple[Table, ColumnElement[bool]]] = (
        (outbox, outbox.c.value == value),
        (voucher_code_versions, voucher_code_versions.c.value == value),
        (voucher_codes, is_missing),
    )
    for table, holds_it in texts:
        if left := await _count(tx, table, holds_it):
            raise VoucherSyncError(
                f"nothing is erased: something on {table.fullname} keeps {plural(left, 'row')} as they are, without a "
                "word: look for triggers and policies, and erase it again"
            )


def _count_of(result: CursorResult[Any]) -> int:
    return result.rowcount


async def _count(tx: AsyncConnection, table: Table, condition: ColumnElement[bool]) -> int:
    return int((await tx.execute(select(func.count()).select_from(table).where(condition))).scalar_one())
