"""Vouchers are listed together, in few calls, and a process that dies has listed little for nothing."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from sync.audit.grouping import MAX_GROUPS, MIN_GROUP_CODES, group_vouchers
from sync.mews.limits import MAX_PAGE_SIZE, MAX_VOUCHERS


@given(st.lists(st.sampled_from([0, 1, 999, 1000, 70_000, 2_000_000]), max_size=3000))
def test_groups_hold_each_voucher_once_and_cost_pages(sizes: list[int]) -> None:
    of_voucher = {UUID(int=number): size for number, size in enumerate(sizes)}
    groups = list(group_vouchers(list(of_voucher), of_voucher))
    assert [one for group in groups for one in group] == list(of_voucher)
    assert all(0 < len(group) <= MAX_VOUCHERS for group in groups)
    calls = sum(sum(of_voucher[one] for one in group) // MAX_PAGE_SIZE + 1 for group in groups)
    assert calls <= sum(sizes) / MAX_PAGE_SIZE + len(sizes) / MAX_VOUCHERS + MAX_GROUPS + 1


def test_a_group_ends_where_it_has_enough_codes() -> None:
    of_voucher = {UUID(int=number): MIN_GROUP_CODES // 2 for number in range(7)}
    assert [len(group) for group in group_vouchers(list(of_voucher), of_voucher)] == [2, 2, 2, 1]


def test_a_voucher_that_the_mirror_has_no_codes_of_is_in_a_group_too() -> None:
    assert list(group_vouchers([UUID(int=1)], {})) == [[UUID(int=1)]]
