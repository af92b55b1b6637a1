"""What is refused of a batch is found, all of it and nothing else, in few calls."""

import random
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.core.bisection import Bisection


def bisect(size: int, refused: Collection[int]) -> tuple[set[int], list[int], int]:
    """What went through, what stood alone and was refused, and the number of calls, the first refused one included."""
    through, alone, calls = set[int](), list[int](), 1
    bisection = Bisection(range(size), is_refused=True)
    while group := bisection.group:
        calls += 1
        is_refused = not set(refused).isdisjoint(group)
        if not is_refused:
            assert through.isdisjoint(group)
            through.update(group)
        elif len(group) == 1:
            alone += group
        bisection.tell(went_through=not is_refused)
    return through, alone, calls


@pytest.mark.long
@given(st.integers(2, 60).flatmap(lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1), min_size=1))))
def test_every_item_either_goes_through_or_is_refused_alone(case: tuple[int, set[int]]) -> None:
    size, refused = case
    through, alone, _ = bisect(size, refused)
    assert set(alone) == refused
    assert len(alone) == len(refused)
    assert through == set(range(size)) - refused


@pytest.mark.long
def test_seven_of_a_thousand_take_at_most_80_calls() -> None:
    rng = random.Random(7)
    scattered = [rng.sample(range(1000), 7) for _ in range(2000)]
    crowded = [rng.sample(range(start, start + 50), 7) for start in range(0, 950, 10)]
    assert max(bisect(1000, refused)[2] for refused in [*scattered, *crowded]) <= 80


def test_one_of_a_thousand_takes_at_most_22_calls() -> None:
    assert max(bisect(1000, [refused_one])[2] for refused_one in range(1000)) <= 22


def test_a_refusal_that_concerns_no_single_item_is_split_until_everything_goes_through() -> None:
    through = set[int]()
    bisection = Bisection(range(10), is_refused=True)
    while group := bisection.group:
        is_refused = {3, 7} <= set(group)
        if not is_refused:
            through.update(group)
        bisection.tell(went_through=not is_refused)
    assert through == set(range(10))


def test_a_batch_of_one_that_was_refused_is_what_is_refused() -> None:
    assert [list(Bisection(batch, is_refused=True).group) for batch in ([1], [])] == [[], []]


def test_a_batch_that_was_not_tried_is_tried_whole_first() -> None:
    whole = Bisection([1, 2, 3])
    assert list(whole.group) == [1, 2, 3]
    whole.tell(went_through=True)
    assert (list(whole.group), list(Bisection[int]([]).group)) == ([], [])
    alone = Bisection([1])
    alone.tell(went_through=False)
    assert list(alone.group) == []


def test_what_has_become_known_meanwhile_is_not_tried() -> None:
    known, tried = set[int](), list[int]()
    bisection = Bisection(range(100), is_refused=True)
    while group := bisection.group:
        tried += group if known else []
        is_refused = any(item % 2 for item in group)
        if is_refused and len(group) == 1:
            known |= set(range(1, 100, 2))
            bisection.drop(known)
        bisection.tell(went_through=not is_refused)
    assert all(item % 2 == 0 for item in tried[1:])
    assert set(tried) >= set(range(2, 100, 2))
