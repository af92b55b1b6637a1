"""Errors that tell of no single call: the API, the database or this machine is away for everybody."""

from sync.core.api_errors import CircuitOpen, ConnectionLost, InvalidResponse, NotConnected, NotFromApi, ServerError
from sync.core.errors import DatabaseUnavailable, NotMigrated, VoucherSyncError

API_IS_AWAY = (NotConnected, CircuitOpen, ServerError, ConnectionLost, NotFromApi, InvalidResponse)
"""As an outage shows itself in turn. All but the first two may also be the answer to one call alone."""


def is_outage(error: VoucherSyncError) -> bool:
    """Whether it says that the API, or the database, is away for everybody, whatever was asked."""
    return isinstance(error, NotConnected | CircuitOpen | DatabaseUnavailable | NotMigrated)


def refusal(error: OSError) -> str:
    """What the operating system has refused, as one more open file."""
    where = f" ({error.filename})" if error.filename else ""
    return f"the operating system refused: {error.strerror or type(error).__name__}{where}"
