"""Files of codes: a cell with a line break in it is bad by each of its lines, and none of them is a code of its own."""

from collections.abc import Sequence
from uuid import UUID

import pytest

from sync.outbox.bulk.files import BadLine, CodeLine, Layout, read_lines

ONE, TWO = Layout(("value",)), Layout(("value", "note"), ";")


def codes_and_bad(lines: Sequence[str], layout: Layout) -> tuple[list[str], dict[int, str]]:
    """The codes of these lines, counted from 2, and why others are none."""
    found = list(read_lines(list(enumerate(lines, 2)), layout, UUID(int=1)))
    codes = [one.value for one in found if isinstance(one, CodeLine)]
    return codes, {one.line: one.reason for one in found if isinstance(one, BadLine)}


def test_the_end_of_a_cell_of_two_lines_is_no_code_of_its_own() -> None:
    codes, bad = codes_and_bad(['"A', 'B";x', "C;y", 'D"E;z', '"F', 'H";x', "I;z"], TWO)
    assert codes == ["C", 'D"E', "I"]
    assert list(bad) == [2, 3, 6, 7]
    are_ends = [reason.startswith("ends the quote that line") for reason in bad.values() if "line break" in reason]
    assert are_ends == [False, True, False, True]


@pytest.mark.parametrize(
    ("lines", "layout", "codes"),
    [
        (['"A', "SECRET", 'B"', "C"], ONE, ["C"]),
        (['"A', "SECRET;y", 'B";x', "C;z"], TWO, ["C"]),
        (['C;"one', "SECRET;two", 'three"', "D;z"], TWO, ["D"]),
        (['"A', 'a 5" pipe', "SECRET", 'B"', "C"], ONE, ["C"]),  # a quote in the cell that is not doubled
        (['"A', '""SECRET""', "SECRET", 'B"', "C"], ONE, ["C"]),
        (['"A', '"SECRET"', "SECRET", 'B"', "C"], ONE, ["C"]),
        (['"one";"A', "SECRET;x", 'B";"C', "SECRET;x", 'D"', "E;z"], TWO, ["E"]),  # one ends, and another begins
        (["C", '"A', "SECRET", "", "SECRET"], ONE, ["C"]),  # its end is lost
        (['"A 5" pipe', "SECRET", 'B"', "C"], ONE, ["C"]),  # its first line has a wrong quote too: they are even
        (['"A" and;x', "SECRET;y", 'B";x', "C;z"], TWO, ["C"]),
        (['C;"one 5" pipe', "SECRET;two", 'three"', "D;z"], TWO, ["D"]),
    ],
)
def test_what_may_be_the_middle_of_a_cell_is_no_code_of_its_own(
    lines: list[str], layout: Layout, codes: list[str]
) -> None:
    read_as_codes, bad = codes_and_bad(lines, layout)
    assert read_as_codes == codes
    middle = [number for number, text in enumerate(lines, 2) if "SECRET" in text]
    opens = next(number for number, text in enumerate(lines, 2) if '"A' in text or '"one' in text)
    assert all(f"the quote that line {opens} opens" in bad[number] for number in middle)


@pytest.mark.parametrize("line", ['"A "x" B";y', '"A "x" B" ;y', 'A;"a "b" c"', '"A" x;"B"'])
def test_a_line_of_wrong_quotes_that_ends_with_its_cell_keeps_no_other_out(line: str) -> None:
    codes, bad = codes_and_bad([line, "C;z"], TWO)
    assert (codes, list(bad)) == (["C"], [2])
