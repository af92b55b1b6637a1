"""What an event counts for once a call has shown how things stand: a pure decision.

An event says that something may have changed, and the API what is so now. So events that come twice, late, in any order
or from somebody else lead to the same: what the API's answer says.
"""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from sync.fleet.webhooks.events import Action

ENDINGS = {Action.DISABLED, Action.CANCELED, Action.DELETED}
MAX_ATTEMPTS = 4
"""So often the API is asked for what an event says; it may show it a little later than the event comes."""
MAX_ATTEMPTS_OF_TOKEN = 60
"""A token that is refused may be enabled later: about two days, with pauses of up to an hour."""


class Step(StrEnum):
    """What is done about a connection."""

    ADD = "added"
    ROTATE = "rotated"
    RESUME = "resumed"
    PAUSE = "paused"
    REMOVE = "removed"
    NOTHING = "nothing"
    AGAIN = "again"


@dataclass(frozen=True, slots=True)
class KnownConnection:
    """The connection of an integration. `hotels`: those that its token last saw, None if not known yet.

    `keeps_token`: the event brings the one that it has, or an older one; `is_paused`: by an event, not by a person.
    """

    hotels: frozenset[UUID] | None
    keeps_token: bool
    is_paused: bool


def decide(
    action: Action,
    known: KnownConnection | None,
    hotels: frozenset[UUID] | None,
    *,
    brings_token: bool,
    attempts: int,
) -> tuple[Step, str]:
    """The step, and why, in words for people.

    `hotels`: what the API shows for the token, the event's if it brings one, else the connection's; None: it refuses
    it. `attempts`: how often that was asked before for this event.
    """
    if brings_token:
        return _of_token(known, hotels, attempts)
    if known is None:
        return Step.NOTHING, "no connection here came with this integration"
    if action in ENDINGS:
        if hotels is None:
            return (Step.REMOVE if action is Action.DELETED else Step.PAUSE), "the API refuses its token"
        return again_or_nothing(attempts, "the API takes its token as before")
    if hotels is None:
        return again_or_nothing(attempts, "the API refuses its token still")
    return _resume(known)


def _of_token(known: KnownConnection | None, hotels: frozenset[UUID] | None, attempts: int) -> tuple[Step, str]:
    if not hotels:
        said = "the API refuses the token" if hotels is None else "the token sees no hotel"
        return again_or_nothing(attempts, said, MAX_ATTEMPTS_OF_TOKEN)
    if known is None:
        return Step.ADD, "the API takes the token"
    if known.keeps_token:
        return _resume(known)
    if known.hotels is not None and not known.hotels <= hotels:
        return Step.NOTHING, "the token is for other hotels than the connection's"
    return Step.ROTATE, "the API takes the new token, and shows the same hotels"


def _resume(known: KnownConnection) -> tuple[Step, str]:
    return (Step.RESUME if known.is_paused else Step.NOTHING), "the API takes its token"


def again_or_nothing(attempts: int, words: str, most: int = MAX_ATTEMPTS) -> tuple[Step, str]:
    """Try it again, or no more once it was tried so often; with the words why."""
    return (Step.AGAIN if attempts + 1 < most else Step.NOTHING), words
