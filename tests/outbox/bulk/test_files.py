"""Files of codes: whatever a line is, it is a code as it was meant, or bad by its number with a reason."""

import io
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sync.core.errors import VoucherSyncError
from sync.core.instants import parse_instant
from sync.outbox.bulk.files import (
    COLUMNS,
    MAX_LINE_LENGTH,
    BadLine,
    CodeLine,
    Layout,
    numbered_lines,
    read_layout,
    read_lines,
    skip_to_layout,
)

VOUCHER, OTHER = UUID(int=1), UUID(int=2)
ALL = Layout(COLUMNS, ";")
ONE = Layout(("value",))


def read(text: str | None, layout: Layout = ALL, voucher: UUID | None = VOUCHER) -> CodeLine | BadLine:
    (line,) = read_lines([(7, text)], layout, voucher)
    return line


@pytest.mark.parametrize(
    ("first", "layout"),
    [
        ("value", Layout(("value",), ",")),
        ("value;note", Layout(("value", "note"), ";")),
        (" Note\t Value ", Layout(("note", "value"), "\t")),
        ('"value","Voucher ID"', Layout(("value", "voucher_id"), ",")),
        ("Validity-Start UTC,value", Layout(("validity_start_utc", "value"), ",")),
        ("SUMMER-2027", Layout(("value",), ",", has_header=False)),
        ('"A,B"', Layout(("value",), ",", has_header=False)),
        ("value;;;", Layout(("value",), ";")),
        ("value;note;", Layout(("value", "note"), ";")),
    ],
)
def test_the_first_line_tells_the_layout(first: str, layout: Layout) -> None:
    assert read_layout(first) == layout


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (None, f"has more than {MAX_LINE_LENGTH:,} characters"),
        ("\udcff\udcfev", "not a text in UTF-8"),
        ("v\0a", "not a text in UTF-8"),
        ("SECRET;2027-01-01", "names no column `value`"),
        ("SECRET,x", "names no column `value`"),
        ('"SECRET', "names no column `value`"),
        ("value|note", "looks like the names of columns"),
        ("Code", "looks like the names of columns"),
        ("voucher_code", "looks like the names of columns"),
        ("value;SECRET", "column 2 of the file is unknown"),
        ("value;;x", "column 2 of the file is unknown"),
        ("value;note;value", "names the column `value` twice"),
    ],
)
def test_a_first_line_that_cannot_be_meant(first: str | None, words: str) -> None:
    with pytest.raises(VoucherSyncError) as raised:
        read_layout(first)
    assert words in str(raised.value)
    assert "SECRET" not in str(raised.value)


def test_a_line_with_everything() -> None:
    line = f' "A;""B"; {OTHER} ;2027-01-01;2027-02-01T12:00+02:00;2026-12-01T00:00:00Z; hello ;key'
    assert read(line) == CodeLine(
        7,
        OTHER,
        'A;"B',
        datetime(2027, 1, 1, tzinfo=UTC),
        datetime(2027, 2, 1, 10, tzinfo=UTC),
        datetime(2026, 12, 1, tzinfo=UTC),
        "hello",
        "key",
    )
    assert read("A;;;;;;") == CodeLine(7, VOUCHER, "A")


@pytest.mark.parametrize(
    ("text", "layout", "reason"),
    [
        (";;;;;note;", ALL, "value: is empty"),
        ("S" * 129, ONE, "value: has 129 characters, the API takes 1 to 128"),
        ("SEC\u200bRET", ONE, "value: holds a character that nobody can see or type"),
        ("SEC\tRET", ALL, "has 1 column, and the first line has 7"),
        ("SECRET;B", ONE, "has more than one column"),
        ("SECRET,B", ONE, "has 2 columns, and the first line has 1"),
        ("SECRET\tB", ONE, "has more than one column"),
        ('"SECRET', ONE, "has a quote that is not closed"),
        ('"SEC"RET', ONE, "has a quote that is not closed"),
        ("SEC\0RET", ONE, "holds a NUL byte"),
        ("SECR\udcc4T", ONE, "is not a text in UTF-8"),
        (None, ONE, f"has more than {MAX_LINE_LENGTH:,} characters"),
        ("A;SECRET;;;;;", ALL, "voucher_id: is no id"),
        ("A;;31.12.2027;;;;", ALL, "validity_start_utc: is no instant"),
        ("A;;;2027-13-01;;;", ALL, "validity_end_utc: is no instant"),
        ("A;;;;0001-01-01T00:00+14:00;;", ALL, "not_before: is no instant"),
        ("A;;2027-01-02;2027-01-01;;;", ALL, "validity_end_utc: lies before validity_start_utc"),
    ],
)
def test_a_bad_line_has_its_number_and_the_reason_and_never_the_code(
    text: str | None, layout: Layout, reason: str
) -> None:
    line = read(text, layout)
    assert isinstance(line, BadLine)
    assert line.line == 7
    assert line.reason.startswith(reason)
    assert "SEC" not in line.reason


def test_a_line_without_a_voucher() -> None:
    line = read("A", ONE, None)
    assert isinstance(line, BadLine)
    assert line.reason.startswith("voucher_id: is missing")
    assert read(f"A;{OTHER};;;;;", ALL, None) == CodeLine(7, OTHER, "A")


def test_the_longest_value_is_taken_and_blank_lines_are_none() -> None:
    lines = [(1, ""), (2, "V" * 128), (3, "  \t")]
    assert list(read_lines(lines, ONE, VOUCHER)) == [CodeLine(2, VOUCHER, "V" * 128)]


@pytest.mark.parametrize("text", [";;;;;;", ", ,,", "\t\t", '"";"";;;;;', "\u00a0", ' ; ""; ; ; ; ;\u00a0'])
def test_rows_of_nothing_but_delimiters_are_blank(text: str) -> None:
    assert list(read_lines([(7, text)], ALL, VOUCHER)) == []


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_one_column_may_have_empty_ones_behind_it_too(delimiter: str) -> None:
    lines = enumerate([f"value{3 * delimiter}", f"A{3 * delimiter}"], 1)
    layout, codes = skip_to_layout(iter(lines))
    assert [line.value for line in read_lines(codes, layout, VOUCHER) if isinstance(line, CodeLine)] == ["A"]


def test_empty_columns_behind_the_last_do_not_count() -> None:
    two = Layout(("value", "note"), ";")
    assert read("A;hello;; ;", two) == CodeLine(7, VOUCHER, "A", note="hello")
    assert isinstance(read("A;hello;;x", two), BadLine)
    assert isinstance(read("A", two), BadLine)


@pytest.mark.parametrize(
    ("lines", "layout", "numbers"),
    [
        (["sep=;", "value;note", "A;x"], Layout(("value", "note"), ";"), [3]),
        (['"SEP=,"', "value", "A", "B"], Layout(("value",), ","), [3, 4]),
        (["sep=\t", "A", "B"], Layout(("value",), "\t", has_header=False), [2, 3]),
        (["", ";;;", "value;;", "A;;"], Layout(("value",), ";"), [4]),
    ],
)
def test_lines_before_the_header_are_taken(lines: list[str], layout: Layout, numbers: list[int]) -> None:
    found, rest = skip_to_layout(iter(list(enumerate(lines, 1))))
    assert found == layout
    assert [number for number, _ in rest] == numbers


@pytest.mark.parametrize(("lines", "words"), [([], "is empty"), (["", ";"], "is empty"), (["sep=|", "A"], "separator")])
def test_a_file_without_a_first_line_is_none(lines: list[str], words: str) -> None:
    with pytest.raises(VoucherSyncError, match=words):
        skip_to_layout(iter(list(enumerate(lines, 1))))


@pytest.mark.parametrize(
    "value",
    [
        "1.23457E+11",
        "1,23457E+11",
        "1.23457e+11",
        "1E-05",
        "123456789012345000",
        "12345.0",
        "12,00",
        '="00123"',
        "=A1",
        "'00123",
        "#N/A",
        "#BEZUG!",
        "#########",
        "TRUE",
        "FALSCH",
        "3-Jan",
        "03. Mrz",
        "Jan-03",
        "1-Dec-27",
        "03.01.2027",
        "1/3/27",
        "12:30:00",
    ],
)
def test_what_a_spreadsheet_has_damaged_is_bad_unless_it_is_meant_so(value: str) -> None:
    quoted = f'"{value.replace(chr(34), chr(34) * 2)}"'
    line = read(quoted, ONE)
    assert isinstance(line, BadLine)
    assert line.reason.startswith("value: ")
    assert "--as-is" in line.reason
    assert value not in line.reason
    assert list(read_lines([(7, quoted)], ONE, VOUCHER, as_is=True)) == [CodeLine(7, VOUCHER, value)]


@pytest.mark.parametrize("value", ["1,23457E+11", " 1,2E+05", "12,00", "=SUM(A1,B1)"])
def test_so_is_what_it_damaged_with_a_comma_in_a_file_of_one_column(value: str) -> None:
    bad = read(value, ONE)
    assert isinstance(bad, BadLine)
    assert "spreadsheet" in bad.reason
    assert "--as-is" in bad.reason


@pytest.mark.parametrize(
    "value",
    [
        "00123",
        "123456789012",
        "12E34",
        "1E5",
        "MAR-27",
        "A#B",
        "#1",
        "true",
        "10-20-30",
        "3-JAN-X",
        "2.5",
        "1.2.3",
        "+5",
    ],
)
def test_what_only_resembles_it_is_a_code(value: str) -> None:
    assert read(value, ONE) == CodeLine(7, VOUCHER, value)


@pytest.mark.long
@given(st.text(max_size=200), st.sampled_from([ALL, ONE]))
@example('";', ALL)
@example('a"', ONE)
def test_whatever_stands_there_is_a_code_or_bad(text: str, layout: Layout) -> None:
    for line in read_lines([(7, text)], layout, VOUCHER):
        assert line.line == 7
        if isinstance(line, CodeLine):
            assert 1 <= len(line.value) <= 128
            assert line.value.isprintable()
            assert line.value == line.value.strip()
            line.value.encode()


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=40), min_size=1))
def test_lines_are_counted_whatever_ends_them(lines: list[str]) -> None:
    for end in ("\n", "\r\n", "\r"):
        text = io.TextIOWrapper(io.BytesIO(end.join([*lines, "last"]).encode()), encoding="utf-8")
        assert list(numbered_lines(text)) == list(enumerate([*lines, "last"], 1))


def test_a_line_that_is_too_long_is_never_held() -> None:
    class Watched(io.StringIO):
        # The base class does not say that it takes None, which it does.
        def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]  # see above
            assert size is not None
            assert 0 < size <= MAX_LINE_LENGTH + 1
            return super().readline(size)

    longest = "L" * MAX_LINE_LENGTH
    text = Watched(f"{longest}\n{longest}L\n{longest * 3}\nA\n{longest}L")
    assert list(numbered_lines(text)) == [(1, longest), (2, None), (3, None), (4, "A"), (5, None)]


@pytest.mark.parametrize(
    "words", ["2027-01-01", "2027-01-01T00:00:00", "2027-01-01 00:00Z", " 2026-12-31T23:00-01:00 "]
)
def test_instants_are_utc_unless_they_say_otherwise(words: str) -> None:
    instant = parse_instant(words)
    assert instant == datetime(2027, 1, 1, tzinfo=UTC)
    assert instant.utcoffset() == timedelta(0)


@pytest.mark.parametrize("words", ["", "tomorrow", "1798761600", "01/02/2027", "9999-12-31T23:59:59-01:00"])
def test_what_is_no_instant(words: str) -> None:
    with pytest.raises(ValueError, match="write it as 2027-12-31"):
        parse_instant(words)
