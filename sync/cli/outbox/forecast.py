"""`--forecast` of `voucher-sync outbox import` and `generate`: what it will cost, and what to tell the vendor."""

import math
from collections.abc import Sequence

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.core.plurals import in_seconds, plural
from sync.mews.limits import MAX_VOUCHERS
from sync.outbox.bulk.campaign import count_vouchers, waiting_by_lane
from sync.outbox.bulk.forecast import CallRate, Forecast, forecast
from sync.settings import Settings

DISCOVERY_CALLS = 3
"""Enterprises, services, vouchers; more where there are more than a page of each."""


async def load_forecast(tx: AsyncConnection, settings: Settings, codes_by_hotel: Sequence[int]) -> Forecast:
    """What so many codes of each hotel will cost, with what is in the outbox and the settings of now."""
    usual = _usual_per_minute(settings, await count_vouchers(tx))
    budget = CallRate(settings.sync_rate_limit_requests, settings.sync_rate_limit_window_s, usual)
    return forecast(codes_by_hotel, await waiting_by_lane(tx), budget)


def _usual_per_minute(settings: Settings, vouchers: int) -> float:
    """One window of news for each thousand vouchers a pull, and the discoveries."""
    pull = max(1, math.ceil(vouchers / MAX_VOUCHERS)) / settings.sync_pull_interval_s
    return 60 * (pull + DISCOVERY_CALLS / settings.sync_discovery_interval_s)


def tell_forecast(told: Forecast) -> None:
    """Print a forecast, with the note for the vendor."""
    calls, window = plural(told.calls, "call"), in_seconds(told.window_s)
    lasts = f"about {max(1, round(told.seconds)):,} s"  # "0 s" would tell the vendor of nothing
    waiting = f", behind {plural(told.waiting_calls, 'call')} of what waits already" if told.waiting_calls else ""
    budget = plural(told.budget_requests, "call")
    usual = f"about {told.usual_per_minute:.1f} calls a minute"
    lines = (
        f"{plural(told.codes, 'code')}: {calls} of voucherCodes/add{waiting}; {lasts} once all is due.",
        f"In the busiest {window} it makes {told.busiest_calls:,} of the {budget} that the budget has then, "
        f"{told.budget_share:.0%}.",
        "Mews asks to be told of a campaign beforehand. What to tell it:",
        f"  time: when it is to begin, in UTC, and that it lasts {lasts}",
        f"  operations: voucherCodes/add, {calls} of up to 1000 codes",
        f"  multiplier: up to {told.multiple:,.0f} times the usual load, which is {usual}",
        "Nothing is queued: this is a forecast.",
    )
    click.echo("\n".join(lines))
