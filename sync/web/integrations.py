"""Receives the vendor's integration webhooks, on an address of its own: accepts them durably, and believes none."""

import asyncio
import hmac
from functools import partial

from aiohttp import web

from sync.core.errors import DatabaseError
from sync.fleet.webhooks.events import MAX_BYTES, read_event
from sync.fleet.webhooks.intake import Intake
from sync.fleet.webhooks.work import Receiver
from sync.settings import Settings
from sync.web.answers import finished, plain

PATH = "/integrations/"
"""Before the secret, in the address that the vendor is given."""
ACCEPTED = 202


def make_receiving_app(settings: Settings, receiver: Receiver, wake: asyncio.Event) -> web.Application:
    """What answers the vendor; `wake` is set with each event that was accepted."""
    secret = settings.sync_integration_secret
    assert secret is not None  # noqa: S101 - `integration_address` has made sure
    app = web.Application(client_max_size=MAX_BYTES)
    answer = partial(_answer, secret=secret.get_secret_value().encode(), intake=Intake(receiver), wake=wake)
    app.router.add_route("*", "/{path:.*}", answer)
    return app


async def _answer(request: web.Request, *, secret: bytes, intake: Intake, wake: asyncio.Event) -> web.StreamResponse:
    given = request.path.removeprefix(PATH).encode("utf-8", "surrogateescape")
    if not request.path.startswith(PATH) or not hmac.compare_digest(given, secret):
        return finished(plain(404, "there is nothing here"))
    if request.method != "POST":
        return finished(plain(405, "webhooks are sent by POST", {"Allow": "POST"}))
    try:
        status, words = await _take(await request.read(), intake)
    except web.HTTPRequestEntityTooLarge:
        status, words = 413, f"an event has {MAX_BYTES:,} bytes at most"
    if status == ACCEPTED:
        wake.set()
    return finished(plain(status, words))


async def _take(body: bytes, intake: Intake) -> tuple[int, str]:
    """The status of the answer, and its words."""
    try:
        event = read_event(body)
    except ValueError as error:
        return 400, str(error)
    if event is None:
        return 200, "this action is not followed"
    try:
        is_accepted = await intake.keep(body, event)
    except (DatabaseError, TimeoutError):
        return 503, "the database takes nothing at present: send it again"
    return (ACCEPTED, "accepted") if is_accepted else (503, "too many events wait to be verified: send it again later")
