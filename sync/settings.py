"""Every setting; what its value may be is `sync.setting_values`, and where they come from `sync.setting_sources`."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sync.core.errors import SettingsError
from sync.setting_sources import read_sources
from sync.setting_values import (
    EMPTY,
    MAX_CLOCK_TOLERANCE_S,
    BackfillStart,
    BindAddress,
    Count,
    CronTimes,
    HttpToken,
    LeaseSeconds,
    NotEmpty,
    PathSecret,
    PlatformAddress,
    PositiveSeconds,
    Secret,
    SecretKeys,
    SecretUrl,
    Share,
    SigningSecret,
    Token,
)

IN_THE_FUTURE = (
    "SYNC_BACKFILL_FROM lies in the future, so of the codes there are none is mirrored before an audit finds it: "
    "see the year, or this machine's clock"
)


class Settings(BaseModel):
    """A field's name in capitals is the variable's; docs/reference/settings.md tells the sentence beneath it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    database_url: Secret | None = None
    """SQLAlchemy or libpq URL. Default: with the extra `demo` an embedded PostgreSQL in the user's data directory
    (root's: `/var/lib/voucher-sync`), made by `run`, `once` and `migrate`."""
    mews_platform_address: PlatformAddress = "https://api.mews.com"
    """The API's base address; plain http only for this machine's own."""
    mews_client_token: Token | None = None
    """The integration's token. Default: none."""
    mews_access_token: Token | None = None
    """The hotel's token, or a portfolio token for many hotels. Default: none."""
    sync_secret_key: SecretKeys | None = None
    """Encrypts the tokens of connections in the database; `voucher-sync connections key` makes one. Of several, with
    commas between them, the first encrypts and each reads. Default: none."""
    mews_client: NotEmpty = f"voucher-sync {version('voucher-sync')}"
    """How the API sees this client."""
    sync_database_pool: Annotated[int, Field(ge=2, le=100)] = 5
    """Database sessions of the daemon, beside one that listens; 2 are enough to work."""
    sync_listen_url: Secret | None = None
    """A way to the database past a pooler of transactions, through which nothing can be listened for; one session goes
    there. Default: `DATABASE_URL`."""
    sync_pull_interval_s: PositiveSeconds = 60
    """Seconds between incremental pulls."""
    sync_overlap_s: Annotated[int, Field(ge=1, le=86_400)] = 600
    """How far a pull reaches back behind the last one; writes that show late are found within it. Less than
    `SYNC_SETTLE_AFTER_S` counts as that."""
    sync_discovery_interval_s: PositiveSeconds = 600
    """Seconds between discoveries of hotels, services and vouchers."""
    sync_audit_cron: CronTimes = "0 3 * * *"
    """When the full comparison runs, and mends what it finds; cron's five fields as cron means them (0 and 7 are
    Sunday, day of month OR day of week; Quartz's `L`, `W`, `#` and `?` are refused), in UTC."""
    sync_audit_max_loss: Share = 0.05
    """An audit that misses more than this share of the codes changes nothing, and says so."""
    sync_backfill_from: BackfillStart | None = None
    """First instant to mirror. Default: the oldest known voucher's creation."""
    sync_rate_limit_requests: Count = 200
    """The API's budget for the token: so many requests within the window, of all processes that work on the database
    together, also behind a crash or restart."""
    sync_rate_limit_window_s: PositiveSeconds = 30
    """Seconds of that window."""
    sync_platform_calls_in_flight: Count = 250
    """Calls to a platform address that may be under way at once, of all hotels and replicas together; each replica has
    its part. A command, as `once`, keeps to it alone."""
    sync_platform_calls_per_s: Count = 500
    """The same for calls within any second. 5,000 hotels with the usual intervals need some 110."""
    sync_request_timeout_s: PositiveSeconds = 60
    """Total seconds for one call."""
    sync_max_response_mb: Annotated[int, Field(ge=1, le=1024)] = 32
    """An answer longer than so many MiB, unpacked, is not read; less is asked for instead."""
    sync_clock_tolerance_s: Annotated[float, Field(ge=60, le=MAX_CLOCK_TOLERANCE_S)] = 86_400
    """The API's clock (its `Date` header) is believed where it is within so many seconds of what was known of it,
    or of this machine's; else nothing is pulled and no add sent, and both are told."""
    sync_lease_s: LeaseSeconds = 30
    """A daemon silent for so long counts as dead; a write to the API gets at most half of it. At
    least 1."""
    sync_push_poll_s: PositiveSeconds = 5
    """Seconds between looks at the outbox, should a notification be lost."""
    sync_settle_after_s: PositiveSeconds = 15
    """Seconds within which the API shows its own writes; a lost answer is looked up then."""
    sync_delete_brake_share: Share = 0.2
    """Deletes of more than this share of the active codes within the window are held until somebody releases them."""
    sync_delete_brake_min: Count = 100
    """Fewer deletes than this are never held for being too many."""
    sync_delete_brake_window_s: PositiveSeconds = 600
    """Seconds of that window."""
    sync_delete_brake_long_share: Share = 0.5
    """The same over a longer window: bit by bit a hotel is emptied too."""
    sync_delete_brake_long_window_s: PositiveSeconds = 86_400
    """Seconds of the longer window."""
    sync_outbox_keep_days: Annotated[int, Field(ge=1, le=36_500)] = 90
    """Days for which finished changes are kept; but as long as a window of the delete brake, which counts them."""
    sync_history: Literal["on", "off"] = "on"
    """Whether each version of a code that is replaced is kept, for `mews.voucher_code_history`: `on` or `off`."""
    sync_state_dir: NotEmpty | None = None
    """Where the daemon keeps the witness of its database: a small file, by which a restored or copied one is
    noticed; in containers a volume. Default: systemd's `STATE_DIRECTORY`, else `state` in the user's data
    directory."""
    sync_http_bind: BindAddress = "127.0.0.1:8321"
    """Where the daemon shows its status page, and answers `/healthz`, `/readyz` and `/metrics` over HTTP; an IPv6
    address in brackets; empty turns it off. What listens there already is told, and waited for."""
    sync_http_token: HttpToken | None = None
    """What whoever asks must send along, as a bearer token or as the password of any user; at least 16 characters.
    Without it only this machine's own addresses may be listened on. `/healthz` is answered without it, and the
    status of `/readyz`. Default: none."""
    sync_integration_bind: BindAddress = ""
    """Where the daemon receives the vendor's integration webhooks, as `host:port`, behind a proxy that ends TLS. Empty:
    nowhere."""
    sync_integration_secret: PathSecret | None = None
    """The end of the path to which the vendor sends them: `/integrations/` and this; at least 16 characters. Default:
    none."""
    sync_alert_webhook_url: SecretUrl | None = None
    """Who is told of every change between well and failing; a secret. Default: nobody."""
    sync_alert_webhook_secret: SigningSecret | None = None
    """Signs what the webhook is told, as Standard Webhooks do. Default: it is not signed."""
    sync_ping_url: SecretUrl | None = None
    """A dead man's switch that is pinged after each complete cycle; a secret. Default: none."""
    sync_ping_token: Token | None = None
    """Sent to that switch as a bearer token. Default: none."""
    sync_log_format: Literal["json", "console"] | None = None
    """How logs are written, on stderr: `json` or `console`. Default: `console` on a terminal, else `json`."""
    sync_log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged: `debug`, `info`, `warning` or `error`."""

    @property
    def secret_keys(self) -> list[str]:
        """The keys of the tokens in the database, the one that encrypts first."""
        return self.sync_secret_key.get_secret_value().split(",") if self.sync_secret_key else []

    @property
    def listen_url(self) -> str | None:
        """Where to listen, if that is not where all else goes."""
        return self.sync_listen_url.get_secret_value() if self.sync_listen_url else None

    @property
    def overlap(self) -> timedelta:
        """How far an incremental window reaches back behind the watermark.

        What the API may show later than that would count as read: an add would be made once more.
        """
        return timedelta(seconds=max(self.sync_overlap_s, self.sync_settle_after_s))

    @property
    def outbox_keep(self) -> timedelta:
        """For how long finished changes are kept."""
        windows_s = self.sync_delete_brake_window_s, self.sync_delete_brake_long_window_s
        return max(timedelta(days=self.sync_outbox_keep_days), *(timedelta(seconds=one) for one in windows_s))


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
