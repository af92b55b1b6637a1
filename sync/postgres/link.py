"""Who on the way to a database may read along, or pass for it: by default libpq takes any server, TLS or not."""

from psycopg import ConnectionInfo

from sync.core.bind_address import is_loopback

VERIFIED = "verify-full"
TO_BE_SURE = f"only sslmode={VERIFIED} keeps who is on the way from passing for the server"


def describe_link(info: ConnectionInfo) -> str:
    """How a session reaches its server, and what that keeps from nobody."""
    if info.host.startswith(("/", "@")):
        return "by a socket of this machine"
    mode = next(one.val for one in info.pgconn.info if one.keyword == b"sslmode")
    return describe_way(info.hostaddr, has_tls=bool(info.pgconn.ssl_in_use), mode=(mode or b"").decode())


def describe_way(address: str, *, has_tls: bool, mode: str) -> str:
    """The same of a network, by the server's address and libpq's `sslmode`."""
    if has_tls and mode == VERIFIED:
        return "over TLS, as the certificate's own name"
    if has_tls:
        return f"over TLS (sslmode={mode}; {TO_BE_SURE})"
    if is_loopback(address):
        return "within this machine"
    return f"without TLS (who is on the way can read codes, and {TO_BE_SURE})"
