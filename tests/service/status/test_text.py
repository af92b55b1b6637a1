"""Of many connections `status` has a line for each, whatever they are called, in which nothing is lost."""

from dataclasses import replace

import pytest
from rich.cells import cell_len

from sync.cli.status_text import as_text
from sync.core.printable import printable
from tests.service.status.helpers import connection, overview

NONE_KNOWN = "no voucher is known yet"
SENTENCES = (
    ("料金が 見つかりません " * 20, 16),
    ("cafe\u0301 re\u0301serve\u0301 " * 20, 9),
    ("ホテルが見つかりません。" * 20, 2),
    ("line§\nfeed§\nand§\x1bescape§ " * 20, 8),
)
"""And how wide the widest of their words is, with a blank."""
WIDE, LONG = "ホテル東京プリンス", "x" * 100


@pytest.mark.parametrize("width", [62, 80, 120])
@pytest.mark.parametrize("names", [("a", "b"), ("a", WIDE, "فندق الشام", "cafe\u0301", LONG)], ids=["short", "odd"])
def test_columns_stand_below_each_other_and_a_long_name_hides_none(names: tuple[str, ...], width: int) -> None:
    lines = as_text(overview(*(connection(name=name, paused_at=None) for name in names)), 30.0, width)
    (head,) = [number for number, line in enumerate(lines) if line.startswith("connection")]
    rows = [line for line in lines[head + 1 :] if " working " in f"{line} "]
    assert {cell_len(line.partition("working")[0]) for line in rows} == {cell_len(lines[head].partition("state")[0])}
    assert (len(rows), "daemon" in lines[head], "30 s ago" in rows[0]) == (len(names), True, True)
    whole = "".join(line.strip() for line in lines)
    assert [name for name in names if name not in whole] == []
    assert [line for line in lines if cell_len(line) > width] == []


@pytest.mark.parametrize("width", [62, 80, 120])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(("text", "widest_word"), SENTENCES, ids=["wide", "combining", "no-blanks", "unprintable"])
def test_a_sentence_is_as_wide_as_its_characters_are(text: str, widest_word: int, count: int, width: int) -> None:
    one = connection(state="failing", error_kind="ServerError", error=text, caught_up_age_s=None)
    lines = as_text(overview(*(replace(one, name=str(number)) for number in range(count))), 30.0, width)
    widths = [cell_len(line) for line in lines if text.strip()[-1] in line]
    assert width - widest_word < max(widths) <= width
    assert printable(text).replace(" ", "") in "".join(lines).replace(" ", "")


@pytest.mark.parametrize("width", [24, 40, 62, 80])
def test_a_terminal_that_is_narrow_lacks_nothing_of_a_line(width: int) -> None:
    owner = f"{'voucher-sync-' * 3}0 (7)"
    hotels = [connection(name=f"hotel-{number}", owner=owner, state="failing", error="x") for number in range(12)]
    lines = as_text(overview(*hotels), 30.0, width)
    shown = "".join("".join(lines).split())
    assert shown.count("".join(owner.split())) == len(hotels) + 10
    assert ("daemon" in shown, shown.count("30sago") >= len(hotels)) == (True, True)
    assert [line for line in lines if cell_len(line) > width] == []


def test_of_a_hotel_without_vouchers_nothing_is_said_to_be_left() -> None:
    one = connection(vouchers=0, voucher_codes=0, complete_through=None, audited_since=None)
    told = {line[:18].strip(): line[18:] for line in as_text(overview(one), 30.0, 80)}
    assert (told["audit"], told["complete through"]) == (NONE_KNOWN, NONE_KNOWN)
