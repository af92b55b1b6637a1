"""Patterns: every number has a code of its own, of the pattern's shape, and too few combinations are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.outbox.bulk.patterns import ALPHABETS, COMBINATIONS_PER_CODE, CodePattern, draw

patterns = st.text(st.sampled_from("##??-Ab1é"), max_size=12).map(CodePattern)


def fits(code: str, pattern: str) -> bool:
    """Whether a code has the pattern's shape, told letter by letter."""
    return len(code) == len(pattern) and all(
        letter in ALPHABETS.get(one, one) for letter, one in zip(code, pattern, strict=True)
    )


@given(patterns, st.data())
def test_two_numbers_have_two_codes_of_the_patterns_shape(pattern: CodePattern, data: st.DataObject) -> None:
    numbers = st.integers(0, pattern.combinations - 1)
    one, other = data.draw(numbers), data.draw(numbers)
    assert fits(pattern.code(one), pattern.text)
    assert (pattern.code(one) == pattern.code(other)) == (one == other)


@pytest.mark.parametrize("text", ["#", "?", "X#?", "?-#"])
def test_all_combinations_are_codes_and_none_comes_twice(text: str) -> None:
    pattern = CodePattern(text)
    assert len({pattern.code(number) for number in range(pattern.combinations)}) == pattern.combinations


def test_nothing_that_people_take_for_another_letter() -> None:
    assert set("0O1IL").isdisjoint(ALPHABETS["?"])
    assert ALPHABETS["?"].upper() == ALPHABETS["?"]
    assert len(set(ALPHABETS["?"])) == 31
    assert sorted(ALPHABETS["#"]) == list("0123456789")


@pytest.mark.long
@given(st.integers(0, 50), st.integers(50, 200))
def test_what_is_drawn_is_new_and_remembered(earlier: int, combinations: int) -> None:
    drawn = set(range(earlier))
    numbers = draw(combinations, combinations - earlier, drawn)
    assert sorted(numbers) == list(range(earlier, combinations))
    assert drawn == set(range(combinations))


@given(patterns, st.integers(1, 100_000))
def test_a_pattern_is_refused_exactly_if_guesses_would_hit_and_the_advice_helps(
    pattern: CodePattern, count: int
) -> None:
    refusal = pattern.refusal(count)
    assert (refusal is None) == (pattern.combinations >= count * COMBINATIONS_PER_CODE)
    if refusal is not None:
        missing = int(refusal.split(": put ")[1].split()[0])
        assert CodePattern(pattern.text + "?" * missing).refusal(count) is None
        assert CodePattern(pattern.text + "?" * (missing - 1)).refusal(count) is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("X" * 100 + "?" * 29, "has 129 characters"),
        ("????? ", "spaces around it"),
        ("?????\x1b", "can see or type"),
        ("X-##", "has 100 combinations, and so that nobody guesses a code it must have 1,000: put 1 more ? into it"),
        ("####", "ask for at most 10"),
    ],
)
def test_a_refusal_says_why(text: str, words: str) -> None:
    assert words in (CodePattern(text).refusal(1 if text != "####" else 11) or "")


def test_the_longest_code_is_taken() -> None:
    assert CodePattern("X" * 100 + "?" * 28).refusal(1_000_000) is None
