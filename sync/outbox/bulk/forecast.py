"""What a campaign of many adds will cost, before anything is queued: calls, time, and how much of the budget. Pure.

The vendor asks to be told of a campaign beforehand: its time, its multiple of the usual load, its operations
(docs/mews-api.md, *Limits and errors*).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

CODES_OF_A_CALL = 1000
PUSH_SHARE = 40 / 41
"""Of the budget while more waits than it lets through: see `sync.mews.rate_limiter`."""
CALL_S = 0.2
"""How long a call is taken to last, of which as many are in flight as the push has at once."""
IN_FLIGHT = 8


@dataclass(frozen=True, slots=True)
class CallRate:
    """So many requests in so many seconds, and how many a minute are usual without a campaign."""

    requests: int
    window_s: float
    usual_per_minute: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a campaign costs once it is due.

    `waiting_calls`: those of what waits in the outbox already, and goes before. `seconds`: until all of both is sent.
    `busiest_calls`: in the busiest span of `window_s`, of `budget_requests`. `multiple`: of the usual load, then.
    """

    codes: int
    calls: int
    waiting_calls: int
    seconds: float
    busiest_calls: int
    budget_requests: int
    window_s: float
    budget_share: float
    usual_per_minute: float
    multiple: float


def forecast(codes_by_hotel: Sequence[int], waiting_by_lane: Sequence[int], budget: CallRate) -> Forecast:
    """The cost of so many codes of each hotel, behind so many changes of each lane that wait already.

    Hotels share no call, nor do adds and deletes. All of it is taken to be due at once, and none to be refused: a
    refused code costs up to twenty more calls, in which it is found.
    """
    calls, waiting = _calls(codes_by_hotel), _calls(waiting_by_lane)
    per_window = max(1, math.floor(budget.requests * PUSH_SHARE))
    total = calls + waiting
    busiest = min(total, per_window)
    usual = budget.usual_per_minute * budget.window_s / 60
    return Forecast(
        codes=sum(codes_by_hotel),
        calls=calls,
        waiting_calls=waiting,
        seconds=_seconds(total, per_window, budget.window_s),
        busiest_calls=busiest,
        budget_requests=budget.requests,
        window_s=budget.window_s,
        budget_share=busiest / budget.requests,
        usual_per_minute=budget.usual_per_minute,
        multiple=(busiest + usual) / usual,
    )


def _calls(changes: Sequence[int]) -> int:
    return sum(math.ceil(number / CODES_OF_A_CALL) for number in changes)


def _seconds(calls: int, per_window: int, window_s: float) -> float:
    """All calls of a window are made at its beginning, and then the next window is waited for."""
    if not calls:
        return 0.0
    whole = (calls - 1) // per_window
    return whole * window_s + math.ceil((calls - whole * per_window) / IN_FLIGHT) * CALL_S
