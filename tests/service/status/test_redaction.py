"""Reasons are told in the API's words, and without codes."""

import pytest

from sync.service.status.redaction import TAKEN_OUT, without_code, without_codes, words


@pytest.mark.parametrize(
    ("reason", "value", "told"),
    [
        ("The code SUMMER-27 exists already.", "SUMMER-27", "The code … exists already."),
        ("The code summer-27 exists already.", "SUMMER-27", "The code … exists already."),
        ("VoucherCode 'OTHER 1' and \"OTHER 2\" exist.", "X", "VoucherCode … and … exist."),
        ("Voucher 0f8fad5b-d9cb-469f-a165-70867728950e is deleted.", None, "Voucher … is deleted."),
        ("A code named A is there.", "A", "… code named … is there."),
        ("Invalid VoucherCodes", None, "Invalid VoucherCodes"),
        ("a\x1b[31m code\nof two lines", None, "a [31m code of two lines"),
        ("(a+b) is taken", "(a+b)", "… is taken"),
        ("The code TWO WORDS exists", "two  words", "The code … exists"),
        ("The code A B exists", "a\u202e\tb ", "The code … exists"),
    ],
)
def test_what_is_quoted_and_the_own_code_are_taken_out(reason: str, value: str | None, told: str) -> None:
    assert without_code(reason, value) == told


def test_reasons_that_differ_in_their_code_alone_are_one() -> None:
    assert len({without_code(f"The code CODE-{n} exists.", f"CODE-{n}") for n in range(50)}) == 1


def test_words_that_are_codes_are_taken_out() -> None:
    reason = "Conflicts with OTHER-1, (other-2) and `OTHER-3`!"
    assert {"OTHER-1", "OTHER-2", "OTHER-3"} <= words([reason])
    told = without_codes(reason, {"other-1", "other-2", "other-3"})
    assert "OTHER" not in told.upper()
    assert told.count(TAKEN_OUT) == 3
