"""The PostgreSQL of a benchmark: a database for each contender, and what the whole server has done so far."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sync.postgres.embedded import embedded_postgres
from sync.postgres.migrations import migrate

EMPTY, MIGRATED = "template1", "migrated"
"""Templates: nothing in it, and our schema."""


class Database:
    """A running server. Its sessions are counted with it, whether they still run or not."""

    def __init__(self, url: str) -> None:
        self._parameters = {name: str(value) for name, value in conninfo_to_dict(url).items()}
        with self.session() as session:
            pid_file = f"{_only(session, 'SHOW data_directory')}/postmaster.pid"
            self.version = str(_only(session, "SHOW server_version"))
        self._postmaster = psutil.Process(int(Path(pid_file).read_text(encoding="ascii").splitlines()[0]))

    def url(self, name: str) -> str:
        """A URL that every library understands: some want a host and a password, and the socket goes before both."""
        host, port = (self._parameters[key] for key in ("host", "port"))
        return f"postgresql://{self._parameters['user']}:none@localhost:{port}/{name}?host={quote(host, safe='')}"

    @property
    def socket(self) -> str:
        """Path of the socket that it listens at."""
        return f"{self._parameters['host']}/.s.PGSQL.{self._parameters['port']}"

    @contextmanager
    def session(self, name: str = "postgres") -> Iterator[psycopg.Connection[Any]]:
        """A session in one of its databases."""
        address = make_conninfo(**(self._parameters | {"dbname": name, "options": "-c TimeZone=UTC"}))
        with psycopg.connect(address, autocommit=True) as session:
            yield session

    def make(self, name: str, template: str = EMPTY) -> str:
        """A new database of this name in the place of an older one; its URL."""
        self.drop(name)
        with self.session() as session:
            session.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
        return self.url(name)

    def drop(self, name: str) -> None:
        """No such database any more."""
        with self.session() as session:
            session.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())

    def come_to_rest(self) -> None:
        """Whatever was written before is on the disk, so that nobody pays for another's pages."""
        with self.session() as session:
            session.execute(b"CHECKPOINT")

    def cpu_s(self) -> float:
        """Processor time of all its processes: those that have ended count with the one that had started them."""
        ended = self._postmaster.cpu_times()
        total = ended.user + ended.system + ended.children_user + ended.children_system
        for process in self._postmaster.children():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue  # it has just ended
            total += times.user + times.system
        return float(total)

    def wal_bytes(self) -> int:
        """The log that it has written."""
        with self.session() as session:
            return int(_only(session, "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))


def _only(session: psycopg.Connection[Any], query: str) -> Any:
    row = session.execute(query.encode()).fetchone()
    return row[0] if row else None


@contextmanager
def database(**more: str) -> Iterator[Database]:
    """A server with its own defaults, but for room for the log: a checkpoint would fall to whom it happens to."""
    options = {"max_wal_size": "8GB", "checkpoint_timeout": "1h"} | more
    with tempfile.TemporaryDirectory(prefix="voucher-sync-bench-", ignore_cleanup_errors=True) as place:
        with embedded_postgres(Path(place), options=options) as url:
            server = Database(url)
            migrate(server.make(MIGRATED))
            yield server
