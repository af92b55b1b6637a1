"""Every mutant still fits the code, and every invariant has one; `make mutants` tries them."""

import pytest

from tests.mutants.patches import INVARIANTS, ROOT, Mutant, Unusable, load_all, parse
from tests.mutants.run import judge

MUTANTS = load_all()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_applies_to_python_that_compiles_and_names_tests_that_exist(mutant: Mutant) -> None:
    texts = mutant.broken(ROOT)
    assert texts
    for path, text in texts.items():
        compile(text, path, "exec")
        assert text != (ROOT / path).read_text(encoding="utf-8")
    assert mutant.tests
    assert [one for one in mutant.tests if not (ROOT / one).is_file()] == []


def test_every_invariant_has_one() -> None:
    assert {mutant.invariant for mutant in MUTANTS} == set(INVARIANTS)


@pytest.mark.parametrize("before", ["no such line", "UNUSABLE = "], ids=["gone", "altered"])
def test_what_has_drifted_away_does_not_apply(before: str) -> None:
    header = "Invariant: 1\nSentence: s\nBreaks: b\nTests: t\n\n"
    drifted = parse("drifted", f"{header}--- a/sync/mews/pages.py\n+++ b/sync/mews/pages.py\n@@ @@\n-{before}\n+pass\n")
    with pytest.raises(Unusable, match="stands 0 times"):
        drifted.broken(ROOT)


@pytest.mark.parametrize(
    ("code", "output", "is_caught", "words"),
    [
        (1, "FAILED tests/a.py::test_b[x - y] - assert 1 == 2", True, "caught by tests/a.py::test_b[x - y]"),
        (1, "ERROR tests/a.py::test_b - OSError: no database", False, "BROKEN"),
        (2, "ERROR tests/a.py - ImportError", False, "BROKEN"),
        (0, "1 passed", False, "SURVIVED"),
        (None, "FAILED tests/a.py::test_b", False, "HUNG"),
    ],
    ids=["failed", "not begun", "not collected", "passed", "hung"],
)
def test_only_a_test_that_failed_has_caught_one(code: int | None, output: str, is_caught: bool, words: str) -> None:
    result = judge(code, output, 1.0)
    assert (result.is_good, result.words.startswith(words)) == (is_caught, True)
