"""Every error that this service raises on purpose, but for those of calls.

    VoucherSyncError
    ├── SettingsError                 a setting is missing or wrong
    ├── DatabaseError                 the mirror's database
    │   ├── DatabaseUnavailable       cannot be reached, went away, or has no room
    │   │   ├── DatabaseFull          takes no more sessions at present
    │   │   ├── DatabaseHindered      answers, and can do nothing at present
    │   │   └── CommitUnknown         went away at a commit
    │   ├── DatabaseBusy              somebody else's transaction stands in the way
    │   │   └── DatabaseLocked        it holds a lock, for longer than is waited
    │   ├── NotMigrated               reached, but its schema is not this version's
    │   │   └── MigratedFurther       it is a newer version's
    │   ├── Unsuitable                reached, but of another encoding, release or pooler
    │   ├── NotAllowed                reached, but its user may not do that
    │   ├── NotAdopted                restored or copied, and nobody agreed to it
    │   ├── IncarnationChanged        its server is another
    │   └── StatementRefused          something on a table refuses what is written, perhaps for one row
    ├── AnotherHotel                  the tokens are not for the hotels that are mirrored
    ├── ClockRefused                  no clock here confirms the API's
    ├── InternalError                 a fault of this service itself; the log has the traceback
    ├── Stopped                       given up because the service is stopping; nothing was in flight
    ├── TooMuchMissing                an audit changed nothing, since so much was missing
    ├── AuditRunning                  an audit is under way
    ├── AuditMissed                   an audit did not begin
    ├── Unreconciled                  it is unknown whether changes were made
    ├── Unsent                        changes were due and not sent
    └── ApiError                      one call of the Mews Connector API: see `sync.core.api_errors`

Foreign errors become one of these in one place: `sync.postgres.engine` for PostgreSQL. No message carries a token.
"""


class VoucherSyncError(Exception):
    """Names the cause and the next step; shown to the operator as it is."""


class SettingsError(VoucherSyncError):
    """A setting is missing or wrong."""


class DatabaseError(VoucherSyncError):
    """The mirror's database."""


class DatabaseUnavailable(DatabaseError):
    """The database cannot be reached, went away in the middle, or takes nothing at present; that passes by itself."""


class DatabaseFull(DatabaseUnavailable):
    """The database takes no more sessions at present, of this role, of this database or at all."""


class DatabaseHindered(DatabaseUnavailable):
    """The database answers, and says what keeps it from working: a full disk, a time-out, that it can only be read."""


class CommitUnknown(DatabaseUnavailable):
    """The database went away at a commit: it is unknown whether what was done stands."""


class DatabaseBusy(DatabaseError):
    """Somebody else's transaction stands in the way: a deadlock, or a lock that is held for long. Nothing was done."""


class DatabaseLocked(DatabaseBusy):
    """Somebody else's transaction held a lock for longer than is waited. Nothing was done."""


class NotMigrated(DatabaseError):
    """The database answers, but its schema is not the one this version works with."""


class NotAdopted(DatabaseError):
    """The database was restored or copied, so that what it has queued may be done already: nothing is sent from it."""


class IncarnationChanged(DatabaseError):
    """The database may be another one than it was a moment ago. Nothing was done."""


class StatementRefused(DatabaseError):
    """A constraint, trigger, index or privilege refuses a statement, perhaps for one of its rows only: `sqlstate` is
    PostgreSQL's code, `words` names what refuses, and neither holds a value."""

    def __init__(self, message: str, sqlstate: str, words: str) -> None:
        super().__init__(message, sqlstate, words)
        self.message, self.sqlstate, self.words = message, sqlstate, words

    def __str__(self) -> str:
        return self.message


class MigratedFurther(NotMigrated):
    """The database's schema is one that only a newer version knows."""


class Unsuitable(DatabaseError):
    """The database answers, but is not one that this service can work with."""


class NotAllowed(DatabaseError):
    """The database answers, but its user lacks a privilege."""


class AnotherHotel(VoucherSyncError):
    """The tokens are for another API, or for other hotels, than those that the database mirrors."""


class ClockRefused(VoucherSyncError):
    """The API's clock is further from every other one than it may be, so that no instant is taken from it."""


class InternalError(VoucherSyncError):
    """A fault of this service itself, whose traceback is in the log."""


class Stopped(VoucherSyncError):
    """Given up because the service is stopping; nothing was in flight."""


class TooMuchMissing(VoucherSyncError):
    """An audit found so much missing that it changed nothing, and waits for somebody to accept the loss."""


class AuditRunning(VoucherSyncError):
    """An audit of the same connection is under way."""


class AuditMissed(VoucherSyncError):
    """An audit did not begin at its time; it is made up for."""


class Unreconciled(VoucherSyncError):
    """It is unknown whether changes were made, and a look is due later."""


class Unsent(VoucherSyncError):
    """Changes that were due could not be sent; they go later."""
