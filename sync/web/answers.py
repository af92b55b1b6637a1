"""What every answer has, an error's too: its headers, and that its connection ends with it."""

from collections.abc import Mapping

from aiohttp import hdrs, web

HEADERS = {
    # Whatever a text may hold, it runs nothing, is framed nowhere and asks no other host for anything.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # aiohttp's own names its release and Python's.
    "Server": "voucher-sync",
}


def plain(status: int, words: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer in one line of text."""
    return web.Response(status=status, text=f"{words}\n", headers=headers)


def finished(response: web.StreamResponse) -> web.StreamResponse:
    """A response with what holds for all; a `Cache-Control` of its own stays.

    One request a connection: whatever else a client has sent along is never looked at.
    """
    for name, value in HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
    response.force_close()
    return response
