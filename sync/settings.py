"""Every setting, and what it may be; where they come from is `sync.setting_sources`."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from sync.core.bind_address import read_bind_address
from sync.core.cron import Cron
from sync.core.errors import SettingsError
from sync.mews.surroundings import LOOPBACK, is_host
from sync.mirror.windows import OLDEST_START
from sync.setting_sources import read_sources

MAX_SECONDS = 366 * 86_400
MAX_CLOCK_TOLERANCE_S = 100 * MAX_SECONDS
MAX_COUNT = 1_000_000_000
"""Past it neither the budget nor the database counts."""
SHORTEST_TOKEN = 16
EMPTY = "is set but empty: give a value, or unset it"
IN_THE_FUTURE = (
    "SYNC_BACKFILL_FROM lies in the future, so of the codes there are none is mirrored before an audit finds it: "
    "see the year, or this machine's clock"
)


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


def _not_a_number(value: object) -> object:
    words = value.strip() if isinstance(value, str) else value
    if isinstance(words, str) and words.lstrip("+-").replace(".", "", 1).isdigit():
        raise ValueError("give it as a date, such as 2024-01-31 or 2024-01-31T12:00:00Z")
    return words


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


Secret = Annotated[SecretStr, AfterValidator(_not_empty)]
Token = Annotated[SecretStr, AfterValidator(_token)]
HttpToken = Annotated[SecretStr, AfterValidator(_http_token)]
PositiveSeconds = Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)]


class Settings(BaseModel):
    """The table under *Settings* in README.md; a field's name in capitals is the variable's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    database_url: Secret | None = None
    mews_platform_address: Annotated[str, AfterValidator(_platform_address)] = "https://api.mews.com"
    mews_client_token: Token | None = None
    mews_access_token: Token | None = None
    mews_client: Annotated[str, Field(min_length=1)] = f"voucher-sync {version('voucher-sync')}"
    sync_database_pool: Annotated[int, Field(ge=2, le=100)] = 5
    sync_pull_interval_s: PositiveSeconds = 60
    sync_overlap_s: Annotated[int, Field(ge=1, le=86_400)] = 600
    sync_discovery_interval_s: PositiveSeconds = 600
    sync_audit_cron: Annotated[str, AfterValidator(_cron)] = "0 3 * * *"
    sync_audit_max_loss: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.05
    sync_backfill_from: Annotated[datetime, BeforeValidator(_not_a_number), AfterValidator(_backfill_from)] | None = (
        None
    )
    sync_rate_limit_requests: Annotated[int, Field(ge=1, le=MAX_COUNT)] = 200
    sync_rate_limit_window_s: PositiveSeconds = 30
    sync_request_timeout_s: PositiveSeconds = 60
    sync_max_response_mb: Annotated[int, Field(ge=1, le=1024)] = 32
    sync_clock_tolerance_s: Annotated[float, Field(ge=60, le=MAX_CLOCK_TOLERANCE_S)] = 86_400
    sync_lease_s: PositiveSeconds = 30
    sync_push_poll_s: PositiveSeconds = 5
    sync_settle_after_s: PositiveSeconds = 15
    sync_delete_brake_share: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.2
    sync_delete_brake_min: Annotated[int, Field(ge=1, le=MAX_COUNT)] = 100
    sync_delete_brake_window_s: PositiveSeconds = 600
    sync_delete_brake_long_share: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.5
    sync_delete_brake_long_window_s: PositiveSeconds = 86_400
    sync_outbox_keep_days: Annotated[int, Field(ge=1, le=36_500)] = 90
    sync_state_dir: Annotated[str, Field(min_length=1)] | None = None
    sync_http_bind: Annotated[str, AfterValidator(_http_bind)] = "127.0.0.1:8321"
    sync_http_token: HttpToken | None = None
    sync_log_format: Literal["json", "console"] | None = None
    sync_log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def overlap(self) -> timedelta:
        """How far an incremental window reaches back behind the watermark."""
        return timedelta(seconds=self.sync_overlap_s)


def load_settings(tell: Callable[[str], None] | None = None) -> Settings:
    """The settings; `SettingsError` with one line for each that is wrong, without its value.

    `tell` is told of what is set in vain, as a misspelt name; without it that is written to stderr.
    """
    names = {field.upper(): field for field in Settings.model_fields}
    tell = tell or _warn
    given = read_sources(names, tell)
    try:
        settings = Settings.model_validate({names[name]: value for name, value in given.items()})
    except ValidationError as error:
        lines = [_describe(one["loc"], one["msg"], is_empty=one["input"] == "") for one in error.errors()]
        raise SettingsError("\n".join(lines)) from None
    # Not refused: a machine whose clock is behind would not start then, and the API's own clock is what counts.
    if settings.sync_backfill_from and settings.sync_backfill_from > datetime.now(UTC):
        tell(IN_THE_FUTURE)
    return settings


def _warn(words: str) -> None:
    sys.stderr.write(f"Warning: {words}\n")


def _describe(location: tuple[int | str, ...], message: str, *, is_empty: bool) -> str:
    name = str(location[0]).upper() if location else "settings"
    if is_empty:
        return f"{name}: {EMPTY}"
    return f"{name}: {message.removeprefix('Value error, ')}"
