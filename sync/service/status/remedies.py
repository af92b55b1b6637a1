"""What to do about an error, by its kind: `check`, `status` and the page say the same."""

import shlex

from sync.connection.guard import NEXT_STEP, next_step
from sync.mews.operations import CLOCK_TO_DO

TRY_LATER = "try again later; if it stays, tell the vendor, with the Request-Id"
SEE_SERVER = "see that the server runs, and that DATABASE_URL is right"
WALL = (
    "what proxy or firewall on the way answers in the API's place; if it is the API itself, tell the vendor, with the "
    "Request-Id"
)
SET_IT = "set what it names where the daemon runs, and start that anew"
NOTHING = "nothing: it is tried again until it works; `voucher-sync check` looks for the cause"

API = {
    "Discontinued": "update voucher-sync, unless this passes within hours",
    "Unauthorized": "check MEWS_CLIENT_TOKEN and MEWS_ACCESS_TOKEN, and that the integration is enabled in Mews",
    "NotFound": "check MEWS_PLATFORM_ADDRESS: production is https://api.mews.com",
    "InvalidResponse": "check MEWS_PLATFORM_ADDRESS, and whether a proxy answers in the API's place",
    "ResponseTooLarge": "raise SYNC_MAX_RESPONSE_MB; if it stays, tell the vendor, with the Request-Id",
    "NotConnected": "check MEWS_PLATFORM_ADDRESS, the network, DNS and any proxy or firewall on the way",
    "InvalidRequest": "check that the tokens are complete, and MEWS_CLIENT is not empty",
    "RateLimited": "try again later; if others use the same token, lower SYNC_RATE_LIMIT_REQUESTS",
    "ConnectionLost": "check the network and any proxy on the way; if the API is slow, raise SYNC_REQUEST_TIMEOUT_S",
    "UndocumentedAnswer": f"check MEWS_PLATFORM_ADDRESS, and {WALL}",
}
DATABASE = {
    "SettingsError": "give DATABASE_URL as the README says, or unset it and run `voucher-sync migrate`",
    "Unsuitable": "what is needed of the database of DATABASE_URL, and of a pooler, is in the README",
    "NotAllowed": "name another user in DATABASE_URL, or grant this one more: see the README and `\\dn+` in psql",
    "DatabaseFull": "end other sessions, raise that limit, or set SYNC_DATABASE_POOL=2",
    "DatabaseHindered": "do what it names, at the database of DATABASE_URL: it is tried again until it works",
    "DatabaseBusy": "see pg_stat_activity for transactions that are open for long",
}
LOSS_TO_DO = "find out why; if that is right, run `voucher-sync audit --repair --accept-loss"
RUNNING = {
    **API,
    **DATABASE,
    "SettingsError": SET_IT,
    "DatabaseUnavailable": SEE_SERVER,
    "CircuitOpen": "nothing, if the vendor's status page tells of it; else check the network and any proxy on the way",
    "ServerError": "nothing at first: it is tried again; if it stays, tell the vendor, with the Request-Id",
    "ConnectionLost": "nothing at first: it is tried again; if it stays, check the network and any proxy on the way",
    "NotFromApi": "see what proxy or firewall on the way answers in the API's place",
    "RateLimited": "nothing: it waits as long as asked, an hour at most; see whether others use the same token",
    "Forbidden": "ask Mews to permit this operation for the integration",
    "NotMigrated": "run `voucher-sync migrate`",
    "MigratedFurther": "run the newer voucher-sync",
    "NotAdopted": "run `voucher-sync adopt`",
    "AnotherHotel": NEXT_STEP,
    "ClockRefused": CLOCK_TO_DO,
    "InternalError": "restart it, and report the traceback in the log: see CONTRIBUTING.md",
    "StatementRefused": "see what of your own on the named table refuses it",
    "TooMuchMissing": f"{LOSS_TO_DO}`",
    "Unreconciled": "nothing: they are looked up as soon as the API can be read",
}
"""Of a daemon, which goes on trying."""
ADDRESS = "see with `voucher-sync connections list --json` that its platform address is right"
STORED = {
    "Unauthorized": "see that the integration is enabled in Mews; `voucher-sync connections rotate {name}` gives it "
    "another token",
    "InvalidRequest": "give it its whole token with `voucher-sync connections rotate {name}`",
    "NotFound": ADDRESS,
    "InvalidResponse": f"{ADDRESS}, and whether a proxy answers in the API's place",
    "UndocumentedAnswer": f"{ADDRESS}, and {WALL}",
    "NotConnected": f"{ADDRESS}; else see the network, DNS and any proxy or firewall on the way",
    "SettingsError": f"{SET_IT}; or give it tokens that can be read with `voucher-sync connections rotate {{name}}`",
}
"""Of a connection whose tokens the database keeps: what the environment says is another's."""

HEADLINES = {
    "Unauthorized": "The API refuses the token",
    "Forbidden": "The API permits this no longer",
    "NotConnected": "The API cannot be reached",
    "CircuitOpen": "The API is failing",
    "ServerError": "The API is failing",
    "ConnectionLost": "The API does not answer",
    "NotFromApi": "Something answers in the API's place",
    "UndocumentedAnswer": "The API, or something in its place, refuses calls",
    "InvalidResponse": "The API's answers cannot be read",
    "NotFound": "This is not the API's address",
    "RateLimited": "The API asks for fewer requests",
    "AnotherHotel": "The token is for another hotel",
    "ClockRefused": "No clock confirms the API's",
    "NotAdopted": "Waiting to be adopted",
    "TooMuchMissing": "The audit missed too many codes",
    "Unreconciled": "Changes whose outcome is unknown",
    "StatementRefused": "Something on a table refuses what is written",
    "InternalError": "A fault of voucher-sync itself",
    "DatabaseUnavailable": "The database does not answer",
    "DatabaseFull": "The database takes no more sessions",
    "DatabaseHindered": "The database cannot work at present",
    "DatabaseBusy": "The database is too busy",
    "NotAllowed": "The database does not let this user in",
    "Unsuitable": "This database cannot be worked with",
    "NotMigrated": "The database is not migrated",
    "MigratedFurther": "The database is of a newer release",
    "SettingsError": "A setting keeps it from working",
    "Discontinued": "The vendor has discontinued a call",
    "InvalidRequest": "The API refuses a call as invalid",
    "ResponseTooLarge": "The API's answers are too large",
}


def headline(kind: str | None) -> str:
    """What has happened, in few words."""
    return HEADLINES.get(kind or "", "Failing")


def of(kind: str | None, stored: str | None = None) -> str:
    """What to do about an error that a running daemon meets; `stored`: of this connection, kept in the database."""
    return _of_stored(kind, stored) or RUNNING.get(kind or "", NOTHING)


def of_answer(kind: str, stored: str | None = None) -> str:
    """The same of what the API has answered to somebody who waits, and who tries again by hand."""
    return _of_stored(kind, stored) or API.get(kind, TRY_LATER)


def tokens(stored: str | None) -> str:
    """Where the tokens are given; `stored`: of this connection, kept in the database."""
    return "MEWS_ACCESS_TOKEN" if stored is None else f"`voucher-sync connections rotate {shlex.quote(stored)}`"


def _of_stored(kind: str | None, name: str | None) -> str:
    """Empty where it is the same whoever keeps the tokens."""
    if name is None:
        return ""
    if kind == "AnotherHotel":
        return next_step(name, is_stored=True)
    if kind == "TooMuchMissing":  # else the loss of every hotel would be accepted with this one's
        return f"{LOSS_TO_DO} --connection {shlex.quote(name)}`"
    return STORED.get(kind or "", "").format(name=shlex.quote(name))
