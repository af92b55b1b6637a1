"""Which vouchers an audit lists together: a pure decision."""

from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

from sync.mews.limits import MAX_VOUCHERS

MIN_GROUP_CODES = 100_000
"""What a process that dies has listed for nothing is no more than this, or than one voucher has, ..."""
MAX_GROUPS = 8
"""... unless that would make more groups than these, each of which may cost a page that is not full."""


def group_vouchers(voucher_ids: Sequence[UUID], sizes: Mapping[UUID, int]) -> Iterator[list[UUID]]:
    """Vouchers to list in one go, in order; `sizes`: how many codes each is known to have, none where it is absent.

    Listing them takes at most codes / 1000 + vouchers / 1000 + `MAX_GROUPS` + 1 calls, as far as the sizes are right.
    """
    limit = max(MIN_GROUP_CODES, -(-sum(sizes.get(one, 0) for one in voucher_ids) // MAX_GROUPS))
    group, codes = list[UUID](), 0
    for one in voucher_ids:
        group.append(one)
        codes += sizes.get(one, 0)
        if codes >= limit or len(group) == MAX_VOUCHERS:
            yield group
            group, codes = [], 0
    if group:
        yield group
