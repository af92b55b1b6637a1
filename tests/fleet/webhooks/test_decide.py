"""An event counts for what the API says once it has come, whatever the event itself says."""

from uuid import UUID

import pytest

from sync.fleet.webhooks.decide import MAX_ATTEMPTS, MAX_ATTEMPTS_OF_TOKEN, KnownConnection, Step, decide
from sync.fleet.webhooks.events import Action

A, B = UUID(int=1), UUID(int=2)
HOTEL, BOTH, OTHER = frozenset({A}), frozenset({A, B}), frozenset({B})
SAME = KnownConnection(HOTEL, keeps_token=True, is_paused=False)
BEFORE = KnownConnection(HOTEL, keeps_token=False, is_paused=False)
PAUSED = KnownConnection(HOTEL, keeps_token=True, is_paused=True)
NEVER_READ = KnownConnection(None, keeps_token=False, is_paused=False)
BRINGING = [Action.CREATED, Action.API_KEY_CREATED]


@pytest.mark.parametrize("action", BRINGING)
@pytest.mark.parametrize(
    ("known", "hotels", "step"),
    [
        (None, HOTEL, Step.ADD),
        (None, None, Step.AGAIN),
        (None, frozenset(), Step.AGAIN),
        (SAME, HOTEL, Step.NOTHING),
        (PAUSED, HOTEL, Step.RESUME),
        (BEFORE, HOTEL, Step.ROTATE),
        (BEFORE, BOTH, Step.ROTATE),
        (BEFORE, OTHER, Step.NOTHING),
        (BEFORE, None, Step.AGAIN),
        (NEVER_READ, HOTEL, Step.ROTATE),
    ],
)
def test_a_token_counts_once_the_api_takes_it_for_the_same_hotels(
    action: Action, known: KnownConnection | None, hotels: frozenset[UUID] | None, step: Step
) -> None:
    assert decide(action, known, hotels, brings_token=True, attempts=0)[0] is step


@pytest.mark.parametrize("action", [one for one in Action if one not in BRINGING])
@pytest.mark.parametrize("hotels", [HOTEL, None])
def test_what_is_not_known_here_is_nothing(action: Action, hotels: frozenset[UUID] | None) -> None:
    assert decide(action, None, hotels, brings_token=False, attempts=0)[0] is Step.NOTHING


@pytest.mark.parametrize(
    ("action", "known", "hotels", "step"),
    [
        (Action.DISABLED, BEFORE, None, Step.PAUSE),
        (Action.CANCELED, BEFORE, None, Step.PAUSE),
        (Action.DELETED, BEFORE, None, Step.REMOVE),
        (Action.DISABLED, BEFORE, HOTEL, Step.AGAIN),
        (Action.DELETED, BEFORE, HOTEL, Step.AGAIN),
        (Action.ENABLED, PAUSED, HOTEL, Step.RESUME),
        (Action.REINSTATED, PAUSED, HOTEL, Step.RESUME),
        (Action.ENABLED, BEFORE, HOTEL, Step.NOTHING),
        (Action.ENABLED, PAUSED, None, Step.AGAIN),
    ],
)
def test_an_end_or_a_beginning_counts_once_the_api_shows_it(
    action: Action, known: KnownConnection, hotels: frozenset[UUID] | None, step: Step
) -> None:
    assert decide(action, known, hotels, brings_token=False, attempts=0)[0] is step


@pytest.mark.parametrize("action", [Action.DELETED, Action.DISABLED, Action.CANCELED])
def test_a_forged_end_comes_to_nothing_after_a_few_calls(action: Action) -> None:
    steps = [decide(action, SAME, HOTEL, brings_token=False, attempts=number)[0] for number in range(MAX_ATTEMPTS)]
    assert steps == [Step.AGAIN] * (MAX_ATTEMPTS - 1) + [Step.NOTHING]


def test_a_forged_token_comes_to_nothing_in_the_end() -> None:
    step, _ = decide(Action.CREATED, None, None, brings_token=True, attempts=MAX_ATTEMPTS_OF_TOKEN)
    assert step is Step.NOTHING
