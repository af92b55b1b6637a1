"""PgBouncer in transaction mode, where it is installed: each transaction may find another session.

With POOLER set (`make test-pooler`), whatever is tested goes to its database that way. Who acts as a user goes there
directly, and so does what is tested where a test puts a proxy of its own in between.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sync.postgres.embedded import UNPRIVILEGED_USER
from tests.support.postgres import wait_for_server

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
needs_pgbouncer = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")
IS_POOLED = bool(os.environ.get("POOLER"))
if IS_POOLED and PROGRAM is None:
    raise pytest.UsageError("POOLER is set, and pgbouncer is not installed")
QUICK_LOOKS = {"SYNC_PUSH_POLL_S": "0.2"} if IS_POOLED else {}
"""No notification arrives through a pooler, and no test is about how long it takes without one."""
PORT = 6432
_ways = dict[str, str]()
CONFIG = """
[databases]
{database} = {target}
[pgbouncer]
listen_addr =
listen_port = {port}
unix_socket_dir = {directory}
auth_type = any
pool_mode = transaction
default_pool_size = {pool_size}
server_login_retry = 0.1
{more}
"""


@contextmanager
def pooled(url: str, *, pool_size: int = 3, more: Mapping[str, str] | None = None) -> Iterator[str]:
    """The URL of the same database and user behind a pooler of `pool_size` sessions; `more` goes into its settings."""
    assert PROGRAM is not None
    target = conninfo_to_dict(url)
    database = str(target["dbname"])
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as name:
        directory = Path(name)
        settings = "\n".join(f"{key} = {value}" for key, value in (more or {}).items())
        config = directory / "pgbouncer.ini"
        config.write_text(
            CONFIG.format(
                database=database,
                target=make_conninfo(**{key: str(value) for key, value in target.items()}),
                port=PORT,
                directory=directory,
                pool_size=pool_size,
                more=settings,
            )
        )
        command = [PROGRAM, str(config)]
        if os.geteuid() == 0:  # it refuses to run as root; and the embedded server lets nobody else near
            shutil.chown(directory, UNPRIVILEGED_USER)
            command[1:1] = ["--user", UNPRIVILEGED_USER]
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            pooled_url = make_conninfo(host=str(directory), port=PORT, dbname=database, user="anybody")
            wait_for_server(pooled_url, process, directory / "log")
            yield pooled_url
        finally:
            process.terminate()
            process.wait()


@contextmanager
def in_front_of(url: str) -> Iterator[None]:
    """`way_to` this database leads through a pooler, with as many sessions as any test takes."""
    with pooled(url, pool_size=20) as _ways[url]:
        yield
    del _ways[url]


def way_to(url: str) -> str:
    """How what is tested goes to a database."""
    return _ways.get(url, url)
