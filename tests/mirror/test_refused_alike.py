"""Rows that are refused for what they have in common are set aside too: others that differ in it go through."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from sync.mirror import store, tables
from tests.support.database import code, voucher
from tests.support.flows import later, numbered
from tests.support.guards import ONE_SORT, aside, put
from tests.support.mirror import Mirror

BEGIN, END = datetime(2030, 1, 1, tzinfo=UTC), datetime(2031, 6, 1, tzinfo=UTC)


@pytest.mark.sampled
@pytest.mark.parametrize("guard", ONE_SORT.values(), ids=ONE_SORT.keys())
async def test_a_page_of_one_refused_sort_keeps_no_other_sort_waiting(mirror: Mirror, guard: Sequence[str]) -> None:
    summer, winter = mirror.add_voucher("Summer"), mirror.add_voucher("Winter")
    mirror.add_codes(summer, ["OLD"])
    await mirror.once()
    await put(mirror, guard)
    mirror.world.add_codes(summer.id, numbered(3), validity_start_utc=END)
    report = await later(mirror)
    assert (report.written, report.rejected, report.caught_up is not None) == (0, 3, True)
    mirror.world.add_codes(winter.id, ["GOOD"], validity_start_utc=BEGIN, validity_end_utc=END)
    assert (await later(mirror)).written == 1
    assert len(await aside(mirror)) == 3


@pytest.mark.long
async def test_of_old_rows_that_break_a_later_rule_only_those_that_change_are_set_aside(mirror: Mirror) -> None:
    summer = mirror.add_voucher()
    endless = mirror.add_codes(summer, numbered(3, "ENDLESS"))
    await mirror.once()
    mirror.world.add_codes(summer.id, numbered(60), validity_end_utc=END)
    await later(mirror)
    await put(mirror, ONE_SORT["a check of the end"])
    mirror.world.edit_code(endless[0].id, value="ANOTHER")
    report = await later(mirror)
    assert (report.written, report.rejected, report.caught_up is not None) == (0, 1, True)


@pytest.mark.parametrize("value", [None, "SUMMER"])
def test_made_up_codes_differ_in_each_property_and_break_no_rule_of_the_table_s_own(value: str | None) -> None:
    original = code(1, value)
    likes = store.likes_of(tables.voucher_codes, original)
    for name in original._fields:
        assert any(getattr(like, name) != getattr(original, name) for like in likes)
    assert None not in {like.voucher_id for like in likes} | {like.is_active for like in likes}
    assert len({like.id for like in likes}) == len(likes)


def test_so_do_made_up_vouchers() -> None:
    original = voucher(1)
    likes = store.likes_of(tables.vouchers, original)
    for name in original.__slots__:
        assert any(getattr(like, name) != getattr(original, name) for like in likes)
