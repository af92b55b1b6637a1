"""What spreadsheets of other countries make of codes, and what only resembles it."""

import pytest

from sync.outbox.bulk.spreadsheets import as_text, damage

DATES = [
    "2027-01-03",
    "2027/1/3",
    "2027.01.03",
    "2027-01-03 00:00:00",
    "03-01-2027",
    "3-1-2027",
    "1/3/2027 0:00",
    "03.01.2027 12:30:00",
    "12:30:00 PM",
    "2027. 1. 3.",
]
MONTHS = ["03-janv", "03-févr.", "3-gen", "3-ene", "3-mrt", "3-maj", "3-paź", "déc-27", "03/mar/2027", "3-août-27"]
GROUPED = [
    "123.456.789.012",
    "123,456,789,012",
    "1'234'567",
    "1’234’567",
    "123\u202f456\u202f789",
    "1\u00a0234\u00a0567",
]
ERRORS = ["#VALEUR!", "#NOM?", "#N/D", "#¡VALOR!", "#WAARDE!", "#HODNOTA!", "#ÉRTÉK!", "#BŁĄD!", "#FIELD!"]


CURLY = ["\u201cSUMMER\u201d", "\u201eSUMMER\u201c", "\u00abSUMMER\u00bb", "SUMMER\u201d"]


@pytest.mark.parametrize("value", [*DATES, *MONTHS, *GROUPED, *ERRORS, *CURLY])
def test_another_country_s_writing_is_known_too(value: str) -> None:
    assert "spreadsheet" in damage(value)


@pytest.mark.parametrize(
    "value",
    [
        "2027-SUMMER",
        "2027-01",
        "1999-12-345",
        "10-20-30",
        "03-01-1",
        "99-99-9999",
        "2027-13-40",
        "MAI-27",
        "3-MAI",
        "3-marble",
        "3-set-off",
        "1.234",
        "12.345",
        "100 200 300",
        "123-456-789",
        "1.2.3.4",
        "#ABC",
        "#SALE!",
        "#BFF!2",
        "N/D",
    ],
)
def test_what_is_none_of_it_is_a_code(value: str) -> None:
    assert damage(value) == ""


@pytest.mark.parametrize("first", "=+-@\t\r\n＝＋－＠")
def test_what_would_begin_a_formula_is_marked_as_text(first: str) -> None:
    """Excel takes the wide forms of its Japanese keyboard for the narrow ones."""
    assert as_text(f"{first}1") == f"'{first}1"


@pytest.mark.parametrize(
    ("value", "cell"), [("a;=1+1;b", "a;'=1+1;b"), ("a\n@SUM", "a\n'@SUM"), ("a;b-1=2\r\nc", "a;b-1=2\r\nc")]
)
def test_so_is_what_would_begin_one_where_a_cell_is_parted_in_two(value: str, cell: str) -> None:
    """Spreadsheets of countries that part cells by semicolons see no quotes in the middle of one."""
    assert as_text(value) == cell
