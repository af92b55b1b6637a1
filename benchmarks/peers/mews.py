"""What every way of reading the API needs: who asks, and for which vouchers. Each way brings its own HTTP client."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

API = os.environ["MEWS_PLATFORM_ADDRESS"] + "/api/connector/v1/"
CREDENTIALS = {
    "ClientToken": os.environ["MEWS_CLIENT_TOKEN"],
    "AccessToken": os.environ["MEWS_ACCESS_TOKEN"],
    "Client": "peer 1.0",
}
DATABASE_URL = os.environ["DATABASE_URL"]
COUNT = 1000
"""Items of a page, and ids of a request: the most that the API takes."""
OVERLAP = timedelta(minutes=2)
"""How far a look for what is new reaches back behind the newest that is known."""

Body = dict[str, Any]


def pages(post: Callable[[str, Body], Body], operation: str, body: Body) -> Iterator[Body]:
    """The answers of a listing, from the newest page to the oldest."""
    limitation: Body = {"Count": COUNT}
    while True:
        answer = post(operation, CREDENTIALS | body | {"Limitation": limitation})
        yield answer
        if not answer["Cursor"]:
            return
        limitation["Cursor"] = answer["Cursor"]


def voucher_ids(post: Callable[[str, Body], Body]) -> list[str]:
    """The vouchers of all services."""
    services = [one["Id"] for page in pages(post, "services/getAll", {}) for one in page["Services"]]
    body = {"ServiceIds": services, "Extent": {"Vouchers": True}}
    return [one["Id"] for page in pages(post, "vouchers/getAll", body) for one in page["Vouchers"]]


def code_filters(vouchers: list[str], newest: datetime | None = None) -> Iterator[Body]:
    """Bodies that ask for the codes of all vouchers: all of them, or what has changed since `newest`."""
    changed: Body = {}
    if newest is not None:
        now = datetime.now(UTC) + timedelta(seconds=1)
        changed = {"UpdatedUtc": {"StartUtc": _text(newest - OVERLAP), "EndUtc": _text(now)}}
    for first in range(0, len(vouchers), COUNT):
        yield {"VoucherIds": vouchers[first : first + COUNT]} | changed


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
