"""No token goes elsewhere or shows in an error."""

import traceback

import pytest

from sync.core import api_errors
from sync.demo.simulator import Close, Fault, Hang, HtmlPage, RawBody, Simulator, Status
from tests.mews.helpers import CREDENTIALS, ONCE, fail, opened, read, script, served
from tests.outages.virtual_clock import run_in_virtual_time
from tests.support.mirror import ACCESS_TOKEN, CLIENT_TOKEN, Mirror


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_carries_no_token_anywhere(api: Mirror, status: int) -> None:
    stranger = Simulator(api.world)
    async with stranger.serve() as elsewhere, served(status, {"Location": f"{elsewhere}/"}) as address:
        async with opened(api, address=address) as client:
            assert isinstance(await fail(client), api_errors.NotFound)
    assert len(stranger.requests) == 0


@pytest.mark.parametrize(
    "fault",
    [
        Status(401),
        Status(400),
        Status(500),
        Status(403, f"You sent {CLIENT_TOKEN} and {ACCESS_TOKEN}"),
        Close(),
        HtmlPage(),
        RawBody(b'{"Enterprises": 7}'),
        Hang(),
    ],
    ids=repr,
)
def test_no_error_shows_a_token(fault: Fault) -> None:
    shown = run_in_virtual_time(shown_by(fault))
    assert not [text for text in shown if CLIENT_TOKEN in text or ACCESS_TOKEN in text]


async def shown_by(fault: Fault) -> list[str]:
    """Every text about an error. Time leaps over the one that is a time-out."""
    api = Mirror("no database")
    async with api.served(), opened(api, read_timeout_s=10_000.0, retry_policy=ONCE) as client:
        await read(client)
        script(api, fault, times=30)
        error = await fail(client)
        shown = [repr(client), str(error), repr(error), *traceback.format_exception(error)]
        return [*shown, repr(vars(error)), repr(error.__cause__), repr(CREDENTIALS), str(CREDENTIALS)]
