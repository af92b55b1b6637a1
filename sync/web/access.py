"""Who may read: whoever is on this machine, or knows the token.

Without a token only a loopback address is listened on, and a request must name it as its `Host`: a page of another
site whose name was made to lead to this machine (DNS rebinding) names its own. With a token no such page gets an
answer, whatever it names, since it does not know the token.
"""

import hmac
from base64 import b64decode
from collections.abc import Sequence

from sync.core.bind_address import BindAddress, is_loopback, read_bind_address
from sync.core.errors import SettingsError
from sync.settings import Settings

RECEIVING_NEEDS = ("SYNC_INTEGRATION_SECRET", "SYNC_SECRET_KEY", "MEWS_CLIENT_TOKEN")
SCHEMES = ('Bearer realm="voucher-sync"', 'Basic realm="voucher-sync", charset="UTF-8"')
"""A browser can be asked for a password only: there the token is the password of any user."""


def bind_address(settings: Settings) -> BindAddress | None:
    """Where to listen; None: nowhere. `SettingsError` for another machine's way in that no token guards."""
    address = read_bind_address(settings.sync_http_bind)
    if address and not address.is_loopback and settings.sync_http_token is None:
        raise SettingsError(
            f"SYNC_HTTP_TOKEN is not set, and SYNC_HTTP_BIND={address} can be reached from other machines: set the "
            "token, or SYNC_HTTP_TOKEN_FILE, to what `openssl rand -hex 32` prints; or bind to 127.0.0.1:8321"
        )
    return address


def integration_address(settings: Settings) -> BindAddress | None:
    """Where webhooks are received; None: nowhere. `SettingsError` where what it takes is not set."""
    address = read_bind_address(settings.sync_integration_bind)
    missing = [name for name in RECEIVING_NEEDS if getattr(settings, name.lower()) is None]
    if address and missing:
        raise SettingsError(
            f"SYNC_INTEGRATION_BIND is set, and {missing[0]} is not: set it, or {missing[0]}_FILE, too; "
            f"docs/how-to/many-hotels.md says what each is for"
        )
    return address


class Access:
    """What requests must show; without a `token`, a `Host` that means this machine."""

    def __init__(self, token: str | None) -> None:
        self._token = None if token is None else token.encode()

    def is_host_known(self, hosts: Sequence[str]) -> bool:
        """Whether the `Host` headers of a request may be what they are. No browser sends none."""
        return self._token is not None or all(is_loopback(_name_of(host)) for host in hosts)

    def is_authorized(self, authorizations: Sequence[str]) -> bool:
        """Whether the `Authorization` headers of a request hold the token, where one is set."""
        if self._token is None:
            return True
        given = _secret_of(authorizations[0]) if len(authorizations) == 1 else b""
        return hmac.compare_digest(given, self._token)


def _name_of(host: str) -> str:
    name = host.partition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
    return name.strip()


def _secret_of(authorization: str) -> bytes:
    scheme, _, words = authorization.partition(" ")
    words = words.strip()
    match scheme.lower():
        case "bearer":
            return words.encode("utf-8", "surrogateescape")
        case "basic":
            try:
                return b64decode(words.encode("ascii"), validate=True).partition(b":")[2]
            except ValueError:
                return b""
    return b""
