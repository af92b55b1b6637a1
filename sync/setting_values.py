"""What a setting's value may be: types that say in a line what is wrong, without the value itself."""

import base64
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from sync.core.bind_address import read_bind_address
from sync.core.cron import Cron
from sync.mews.surroundings import LOOPBACK, is_host
from sync.mirror.windows import OLDEST_START

MAX_SECONDS = 366 * 86_400
MAX_CLOCK_TOLERANCE_S = 100 * MAX_SECONDS
MAX_COUNT = 1_000_000_000
"""Past it neither the budget nor the database counts."""
SHORTEST_TOKEN = 16
SECRET_KEY_BYTES = 32
"""Of a Fernet key, which is written as URL-safe base64."""
SIGNING_PREFIX = "whsec_"
"""How Standard Webhooks mark a secret that is base64."""
EMPTY = "is set but empty: give a value, or unset it"


def _platform_address(given: str) -> str:
    value = given.strip()
    parts = urlsplit(value)
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise ValueError("give an address such as https://api.mews.com")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ValueError("tokens are sent only over https (plain http is for this machine's own addresses)")
    if parts.username or parts.password:
        raise ValueError("give it without a user and password: calls carry tokens instead")
    try:
        parts.port  # noqa: B018 - reading it is what checks it
    except ValueError:
        raise ValueError("the port must be a number from 0 to 65535") from None
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("give only the base address, without a path")
    if not is_host(parts.hostname):
        raise ValueError("its host is no name that there can be")
    return value.rstrip("/?#")


def _cron(value: str) -> str:
    Cron(value)
    return value


def _as_date(value: object, read: ValidatorFunctionWrapHandler) -> datetime:
    words = value.strip() if isinstance(value, str) else value
    # A number would be read as seconds, or as milliseconds, since 1970.
    if not (isinstance(words, str) and words.lstrip("+-").replace(".", "", 1).isdigit()):
        with suppress(ValidationError):
            instant: datetime = read(words)
            return instant
    raise ValueError("is no date: give one such as 2024-01-31, or 2024-01-31T12:00:00Z")


def _backfill_from(value: datetime) -> datetime:
    try:
        instant = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise ValueError("lies beyond the years that there are") from None
    if instant < OLDEST_START:
        raise ValueError(f"lies before {OLDEST_START:%Y}, when there was nothing to mirror: see the year")
    return instant


def _http_bind(value: str) -> str:
    read_bind_address(value)
    return value


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError(EMPTY)
    if "\0" in value:  # a file can hold one; the database takes none, and the system no path with one
        raise ValueError("holds a NUL: save the file that it comes from as text, in UTF-8")
    return value


def _not_empty(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().strip():
        raise ValueError(EMPTY)
    return value


def _token(value: SecretStr) -> SecretStr:
    words = _not_empty(value).get_secret_value()
    if words[0] in "\"'":
        raise ValueError("stands in quotes: take them away")
    if not (words.isascii() and words.isprintable()) or " " in words:
        raise ValueError("holds a space, a line end or a character that no token has: copy it again")
    return value


def _http_token(value: SecretStr) -> SecretStr:
    if len(_token(value).get_secret_value()) < SHORTEST_TOKEN:
        raise ValueError(f"can be guessed: give at least {SHORTEST_TOKEN} characters, as of `openssl rand -hex 32`")
    return value


def _path_secret(value: SecretStr) -> SecretStr:
    if any(one in _http_token(value).get_secret_value() for one in "?#%"):
        raise ValueError(
            "holds ?, # or %, behind which an address goes on otherwise: give what `openssl rand -hex 32` prints"
        )
    return value


def _secret_url(value: SecretStr) -> SecretStr:
    """An address that lets in whoever knows it: no message here quotes it."""
    given = _not_empty(value).get_secret_value().strip()
    try:
        parts = urlsplit(given)
        is_readable = parts.port != 0
    except ValueError:
        raise ValueError("cannot be read as an address: see its brackets and its port") from None
    if parts.scheme not in {"https", "http"} or not parts.hostname or not is_readable:
        raise ValueError("give a whole address, which begins with https:// or http://")
    if not is_host(parts.hostname) or not given.isprintable() or " " in given:
        raise ValueError("cannot be read as an address: copy it again")
    return SecretStr(given)


def _secret_keys(value: SecretStr) -> SecretStr:
    keys = [key.strip() for key in _not_empty(value).get_secret_value().split(",")]
    for key in keys:
        try:
            is_key = len(base64.b64decode(key, altchars=b"-_", validate=True)) == SECRET_KEY_BYTES
        except ValueError:
            is_key = False
        if not is_key:
            raise ValueError("give a key of `voucher-sync connections key`, or several with commas between them")
    return SecretStr(",".join(keys))


def _signing_secret(value: SecretStr) -> SecretStr:
    words = _not_empty(value).get_secret_value().strip()
    if words.startswith(SIGNING_PREFIX):
        try:
            key = base64.b64decode(words.removeprefix(SIGNING_PREFIX), validate=True)
        except ValueError:
            key = b""
        if not key:  # by none anybody could sign
            raise ValueError(f"after {SIGNING_PREFIX} must stand base64: copy it again")
    return SecretStr(words)


PlatformAddress = Annotated[str, AfterValidator(_platform_address)]
CronTimes = Annotated[str, AfterValidator(_cron)]
BackfillStart = Annotated[datetime, WrapValidator(_as_date), AfterValidator(_backfill_from)]
BindAddress = Annotated[str, AfterValidator(_http_bind)]
Secret = Annotated[SecretStr, AfterValidator(_not_empty)]
SecretUrl = Annotated[SecretStr, AfterValidator(_secret_url)]
SecretKeys = Annotated[SecretStr, AfterValidator(_secret_keys)]
SigningSecret = Annotated[SecretStr, AfterValidator(_signing_secret)]
Token = Annotated[SecretStr, AfterValidator(_token)]
HttpToken = Annotated[SecretStr, AfterValidator(_http_token)]
PathSecret = Annotated[SecretStr, AfterValidator(_path_secret)]
PositiveSeconds = Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)]
LeaseSeconds = Annotated[float, Field(ge=1, le=MAX_SECONDS, allow_inf_nan=False)]
"""Half of it is all the time that a write has: of less than a second, most of them would never be sent."""
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
NotEmpty = Annotated[str, AfterValidator(_text)]
