"""One code is told as 1 code: whatever counts in words does it by `plural`."""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise

import pytest

from sync.core.plurals import in_seconds, percent, plural
from tests.support.documents import ROOT

COUNTED = re.compile(
    " (adds|calls|cells|changes|characters|codes|columns|combinations|connections|daemons|deletes|hotels|lines|others|"
    r"records|requests|rows|services|vouchers|windows)\b"
)
APART = ROOT / "sync" / "demo" / "simulator"
"""It shares no code with what it tests."""


def may_be_one(value: ast.expr) -> bool:
    """Whether it may be 1, as told: no constant, whose value may be known, and no fraction, which is 1.0."""
    if not isinstance(value, ast.FormattedValue):
        return False
    is_fraction = value.format_spec is not None and "f" in ast.unparse(value.format_spec).removeprefix("f")
    return not is_fraction and not getattr(value.value, "id", "").isupper()


def counted_in(source: str) -> Iterator[str]:
    """The nouns in the plural right behind a number, in the source's strings."""
    for node in ast.walk(ast.parse(source)):
        for value, text in pairwise(node.values) if isinstance(node, ast.JoinedStr) else ():
            if may_be_one(value) and isinstance(text, ast.Constant):
                yield from (found[1] for found in [COUNTED.match(str(text.value))] if found)


@pytest.mark.parametrize(
    ("number", "words", "told"),
    [
        (0, ["row"], "0 rows"),
        (1, ["row"], "1 row"),
        (1000, ["row"], "1,000 rows"),
        (1, ["row is", "rows are"], "1 row is"),
    ],
)
def test_one_alone_is_no_plural(number: int, words: list[str], told: str) -> None:
    assert plural(number, *words) == told


@pytest.mark.parametrize(
    ("share", "told"), [(0.0, "0%"), (0.005, "0.5%"), (0.07, "7%"), (0.995, "99.5%"), (1.0, "100%")]
)
def test_a_share_is_told_as_it_was_set(share: float, told: str) -> None:
    assert percent(share) == told


@pytest.mark.parametrize(
    ("number", "told"), [(0.5, "0.5 s"), (30.0, "30 s"), (86_400.0, "86400 s"), (366 * 86_400.0, "31622400 s")]
)
def test_seconds_are_told_digit_by_digit(number: float, told: str) -> None:
    assert in_seconds(number) == told


def test_nothing_counts_past_it() -> None:
    modules = [path for path in (ROOT / "sync").rglob("*.py") if APART not in path.parents]
    found = {str(path.relative_to(ROOT)): [*counted_in(path.read_text(encoding="utf-8"))] for path in modules}
    assert len(modules) > 250
    assert {path: nouns for path, nouns in found.items() if nouns} == {}


def test_what_would_count_past_it_is_found() -> None:
    assert [*counted_in('f"has {len(fields)} columns, and {name} rows."')] == ["columns", "rows"]
    assert [*counted_in("f\"{plural(one, 'row')} queued by {name}\"")] == []
