"""What an audit makes of a code, case by case, and when so much is missing that it must not believe it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from sync.audit.compare import Comparison, Difference, MirroredCode, asked_for, columns_that_differ, is_suspicious_loss
from sync.mews.records import VoucherCode
from sync.mews.wire import voucher_codes

BEGAN = datetime(2026, 6, 1, 12, tzinfo=UTC)
STABLE = datetime(2026, 6, 1, 11, tzinfo=UTC)
OLD, LATE = STABLE - timedelta(seconds=1), STABLE
BEFORE, MEANWHILE = BEGAN - timedelta(microseconds=1), BEGAN
JUDGE = Comparison(BEGAN, STABLE)


def code(**fields: Any) -> VoucherCode:
    given: dict[str, Any] = {"value": "SUMMER", "updated_utc": OLD, "is_active": True} | fields
    return VoucherCode(
        UUID(int=1), UUID(int=2), validity_start_utc=None, validity_end_utc=None, created_utc=None, **given
    )


def mirrored(mirrored_at: datetime = BEFORE, *, is_missing: bool = False, **fields: Any) -> MirroredCode:
    return MirroredCode(code(**fields), mirrored_at, is_missing)


@pytest.mark.parametrize(
    ("here", "there", "finding"),
    [
        (mirrored(), code(), Difference.EQUAL),
        (mirrored(updated_utc=LATE), code(updated_utc=LATE), Difference.EQUAL),
        (mirrored(value="WINTER"), code(), Difference.DIFFERING),
        (mirrored(updated_utc=LATE), code(), Difference.DIFFERING),
        (mirrored(updated_utc=None), code(updated_utc=None, is_active=False), Difference.DIFFERING),
        (mirrored(is_missing=True), code(), Difference.DIFFERING),
        (mirrored(value="WINTER"), code(updated_utc=LATE), Difference.RECENT),
        (mirrored(MEANWHILE, value="WINTER"), code(), Difference.RECENT),
        (None, code(), Difference.ONLY_LISTED),
        (None, code(updated_utc=None), Difference.ONLY_LISTED),
        (None, code(updated_utc=LATE), Difference.RECENT),
        (mirrored(), None, Difference.ONLY_MIRRORED),
        (mirrored(updated_utc=LATE), None, Difference.ONLY_MIRRORED),
        (mirrored(is_missing=True), None, Difference.EQUAL),
        (mirrored(MEANWHILE), None, Difference.RECENT),
    ],
)
def test_each_case_has_its_finding(here: MirroredCode | None, there: VoucherCode | None, finding: Difference) -> None:
    assert JUDGE.compare(here, there) is finding


def test_of_a_voucher_that_is_not_mirrored_yet_only_what_no_pull_brings_is_judged() -> None:
    comparison = Comparison(BEGAN, None)
    assert comparison.compare(None, code()) is Difference.RECENT
    assert comparison.compare(None, code(updated_utc=None)) is Difference.ONLY_LISTED


def test_the_columns_that_differ_have_their_names() -> None:
    assert columns_that_differ(code(), code(value="WINTER", is_active=False)) == ["value", "is_active"]
    assert columns_that_differ(code(), code()) == []


@pytest.mark.parametrize(
    ("missing", "mirrored_codes", "is_suspicious"),
    [(0, 0, False), (0, 100, False), (5, 100, False), (6, 100, True), (1, 1, True), (1, 20, False)],
)
def test_more_than_a_share_or_everything_is_too_much(missing: int, mirrored_codes: int, is_suspicious: bool) -> None:
    assert is_suspicious_loss(missing, mirrored_codes, share=0.05) is is_suspicious


def test_everything_is_too_much_whatever_the_share() -> None:
    assert is_suspicious_loss(3, 3, share=1.0)
    assert not is_suspicious_loss(2, 3, share=1.0)


def test_of_a_page_every_code_counts_once_and_none_of_a_voucher_that_was_not_asked_for() -> None:
    first, other, stranger = ("8c364829-c7ae-4972-b67f-93ea704d7228", *(str(uuid4()) for _ in range(2)))
    asked, not_asked = uuid4(), uuid4()

    def page(*codes: tuple[str, UUID]) -> Sequence[VoucherCode]:
        items = [{"Id": one, "VoucherId": voucher_id, "IsActive": True} for one, voucher_id in codes]
        return voucher_codes(msgspec.Raw(msgspec.json.encode(items)))

    plain = page((first, asked), (other, asked))
    assert asked_for(plain, {asked: None}) == (plain, {asked: 2})
    assert asked_for(plain, {asked: None})[0] is plain
    for spoiled in (
        page((first, asked), (stranger, not_asked), (other, asked)),
        page((first, asked), (first.upper(), asked), (other, asked)),
    ):
        assert asked_for(spoiled, {asked: None}) == ([*plain], {asked: 2})
    assert asked_for([], {asked: None}) == ([], {})
