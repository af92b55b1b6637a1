"""Calls to a webhook or a dead man's switch. Their addresses are secrets: nothing here says more than their host."""

import asyncio
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx

from sync.core.errors import VoucherSyncError
from sync.core.printable import printable
from sync.mews.surroundings import proxy_for, tls_context

TIMEOUT_S = 10.0


class NotTold(VoucherSyncError):
    """A webhook or a ping was not taken. The address is not in the message."""


class NotReached(NotTold):
    """Nothing answered there."""


class Poster:
    """POSTs to one address, with a bearer `token` if there is one.

    `SettingsError` where the environment names a proxy or certificates that cannot be used.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url
        self.host = urlsplit(url).hostname or ""
        self._http = httpx.AsyncClient(
            verify=tls_context(url),
            proxy=proxy_for(url),
            trust_env=False,
            # Kept, cookies of ever new names would fill the header, until nothing is taken any more.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            headers={} if token is None else {"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_S,
            # Of an address that answers with another one nobody knows whether it takes what was sent.
            follow_redirects=False,
            limits=httpx.Limits(max_connections=2, max_keepalive_connections=0),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self._http.aclose()

    async def post(self, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """One POST. Raises `NotTold` unless it is taken, with a status from 200 to 299; `NotReached` without any."""
        try:
            # httpx counts anew from each byte that comes: who sends them one by one would be waited for without an end.
            async with (
                asyncio.timeout(TIMEOUT_S),
                self._http.stream("POST", self.url, content=body, headers=headers) as answer,
            ):
                status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, TimeoutError) as error:
            # httpx reads the address that a redirect names also where it does not go there; no host may be called so.
            raise NotReached(f"{self.host} cannot be reached ({_why(error)})") from None
        if not 200 <= status < 300:
            raise NotTold(f"{self.host} answered with HTTP {status}")


def _why(error: Exception) -> str:
    """Why there is no connection, as of a name or a certificate, which knows of no path; else the kind of error."""
    is_of_line = isinstance(error, httpx.ConnectError | httpx.ProxyError)
    return (printable(str(error)) if is_of_line else "") or type(error).__name__
