"""Which rows that a gap holds are done already, by what the mirror shows of their codes. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

from sync.outbox.rules import Operation, Row


def standing(
    rows: Sequence[Row], made: Mapping[int, UUID], named: Mapping[int, tuple[Sequence[UUID], Sequence[UUID]]]
) -> dict[int, UUID]:
    """The code in which each row stands that does, of rows in the order of their ids.

    An add stands where the API has made its code since it was queued, a delete where its code is known as deleted.
    """
    stands: dict[int, UUID] = {}
    of_code = defaultdict[tuple[UUID | None, str | None], list[Row]](list)
    for row in rows:
        of_code[row.voucher_id, row.value].append(row)
    for same in of_code.values():
        stands |= _standing_in_turn(same, made, named)
    return stands


def _standing_in_turn(
    rows: Sequence[Row], made: Mapping[int, UUID], named: Mapping[int, tuple[Sequence[UUID], Sequence[UUID]]]
) -> dict[int, UUID]:
    """The same of one voucher and value, whose rows are carried out one after the other.

    So behind a row that is not done nothing is: what looks like an add's is the code that the delete before it means,
    and what looks like a delete's was deleted long ago, while the code that it means is still to be made.
    """
    stands: dict[int, UUID] = {}
    is_open = False
    for number, row in enumerate(rows):
        if row.operation is Operation.ADD:
            code_id = made.get(row.id)
            is_done = not is_open and code_id not in stands.values()
        else:
            made_later = [made[later.id] for later in rows[number + 1 :] if later.id in made]
            code_id = _deleted_by(*named[row.id], made_later)
            is_done = not is_open or row.voucher_code_id is not None
        if code_id and is_done:
            stands[row.id] = code_id
        else:
            is_open = True
    return stands


def _deleted_by(active: Sequence[UUID], deleted: Sequence[UUID], made_later: Sequence[UUID]) -> UUID | None:
    """The code that a delete has deleted, of those that it names: not what an add behind it made, if there is another.

    None while a code is active that it may mean.
    """
    if not set(made_later).issuperset(active):
        return None
    return next((code_id for code_id in deleted if code_id not in made_later), next(iter(deleted), None))
