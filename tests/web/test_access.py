"""Who may read, and what every answer has."""

import base64

import pytest

from sync.core.bind_address import BindAddress
from sync.core.errors import SettingsError
from sync.settings import Settings
from sync.web.access import bind_address, integration_address
from tests.support.mirror import Mirror
from tests.support.two_tokens import KEY
from tests.web.helpers import TOKEN, read_answer, serving

PATHS = ["/healthz", "/readyz", "/nowhere"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_every_answer_runs_nothing_is_framed_nowhere_and_names_no_release(
    mirror: Mirror, path: str, method: str
) -> None:
    async with serving(mirror) as site:
        answer = await site.get(path, method=method)
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["server"] == "voucher-sync"
    assert (answer.headers["connection"], answer.headers["cache-control"]) == ("close", "no-store")
    assert "access-control-allow-origin" not in answer.headers


async def test_head_is_get_without_a_body(mirror: Mirror) -> None:
    async with serving(mirror) as site:
        got, headed = await site.get("/healthz"), await site.get("/healthz", method="HEAD")
    assert (headed.status, headed.body) == (got.status, b"")
    assert headed.headers["content-length"] == str(len(got.body))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
async def test_nothing_but_reading_is_allowed(mirror: Mirror, method: str) -> None:
    async with serving(mirror) as site:
        answer = await site.get("/healthz", method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("host", ["127.0.0.1:8321", "localhost", "LocalHost.:80", "[::1]:8321", "127.9.9.9"])
async def test_a_host_that_means_this_machine_is_answered(mirror: Mirror, host: str) -> None:
    async with serving(mirror) as site:
        assert (await site.get("/healthz", host=host)).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8321", "10.0.0.1", "127.0.0.1.evil.example", "localhost.evil.example", ""]
)
async def test_another_host_is_a_page_that_was_made_to_lead_here_and_gets_nothing(mirror: Mirror, host: str) -> None:
    async with serving(mirror) as site:
        assert (await site.get("/healthz", host=host)).status == 421


async def test_who_names_no_host_is_no_browser_and_is_answered(mirror: Mirror) -> None:
    async with serving(mirror) as site:
        assert read_answer(await site.send(b"GET /healthz HTTP/1.0\r\n\r\n"), "HTTP/1.0").status == 200


async def test_one_of_two_hosts_is_not_enough(mirror: Mirror) -> None:
    async with serving(mirror) as site:
        received = await site.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
    assert received.split()[1] in {b"400", b"421"}


async def test_with_a_token_any_host_is_answered_that_brings_it(mirror: Mirror) -> None:
    async with serving(mirror, sync_http_token=TOKEN) as site:
        refused = await site.get("/nowhere", host="sync.example")
        for_page = await site.get("/nowhere", host="sync.example", authorization=f"Bearer {TOKEN}")
        user = base64.b64encode(f"anybody:{TOKEN}".encode()).decode()
        for_browser = await site.get("/nowhere", host="sync.example", authorization=f"Basic {user}")
    assert (refused.status, for_page.status, for_browser.status) == (401, 404, 404)
    assert refused.headers["www-authenticate"].startswith("Basic ")


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Token {TOKEN}", TOKEN, "Basic !", "Basic YQ==",
     "Bearer \xff\xfe", f"Basic {base64.b64encode(TOKEN.encode()).decode()}"],
)  # fmt: skip
async def test_what_is_not_the_token_is_refused(mirror: Mirror, authorization: str) -> None:
    async with serving(mirror, sync_http_token=TOKEN) as site:
        answer = await site.get("/nowhere", authorization=authorization)
    assert answer.status == 401
    assert TOKEN.encode() not in answer.body


async def test_alive_needs_no_token_and_ready_tells_its_status_alone_without(mirror: Mirror) -> None:
    async with serving(mirror, sync_http_token=TOKEN) as site:
        alive = await site.get("/healthz")
        without, with_token = await site.get("/readyz"), await site.get("/readyz", authorization=f"Bearer {TOKEN}")
    assert alive.status == 200
    assert (without.status, without.body) == (503, b"Service Unavailable\n")
    assert [one["name"] for one in with_token.json()["checks"]] == ["database", "progress"]


@pytest.mark.parametrize("bind", ["0.0.0.0:8321", "[::]:8321", "192.0.2.1:80", "sync.example:80"])
def test_an_address_that_others_reach_needs_a_token(mirror: Mirror, bind: str) -> None:
    with pytest.raises(SettingsError, match=r"SYNC_HTTP_TOKEN is not set, and SYNC_HTTP_BIND="):
        bind_address(mirror.settings(sync_http_bind=bind))
    assert bind_address(mirror.settings(sync_http_bind=bind, sync_http_token=TOKEN)) is not None


@pytest.mark.parametrize("bind", ["127.0.0.1:8321", "[::1]:0", "localhost:80", "127.1.2.3:1"])
def test_this_machine_s_own_needs_none(mirror: Mirror, bind: str) -> None:
    address = bind_address(mirror.settings(sync_http_bind=bind))
    assert (address and address.is_loopback, str(address)) == (True, bind)


def test_an_empty_address_is_none(mirror: Mirror) -> None:
    assert bind_address(mirror.settings(sync_http_bind="")) is None


NEEDED = {"sync_integration_secret": "the-end-of-the-path", "sync_secret_key": KEY, "mews_client_token": "token"}


@pytest.mark.parametrize("missing", NEEDED)
def test_webhooks_are_received_only_where_all_that_it_takes_is_set(missing: str) -> None:
    given = {"sync_integration_bind": "127.0.0.1:8322", **NEEDED}
    assert integration_address(Settings.model_validate(given)) == BindAddress("127.0.0.1", 8322)
    assert integration_address(Settings.model_validate({**NEEDED})) is None
    del given[missing]
    with pytest.raises(SettingsError, match=missing.upper()):
        integration_address(Settings.model_validate(given))
