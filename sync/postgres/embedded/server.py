"""Starts the embedded server, shares it, and stops it with its last user."""

import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
from psycopg import pq, sql

from sync.core.errors import DatabaseUnavailable
from sync.postgres.embedded.account import server_account
from sync.postgres.embedded.directories import (
    lock,
    locked,
    make_own_directory,
    refuse_if_out_of_reach,
    refuse_if_shared,
)
from sync.postgres.embedded.programs import programs_for
from sync.postgres.embedded.sockets import Sockets, access_rules

DATABASE = "voucher_sync"
SUPERUSER = "postgres"
START_TIMEOUT_S = 300
"""Recovery after a crash reads the whole log since the last checkpoint, and may take minutes."""
STOP_TIMEOUT_S = 300
"""Stopping writes to disk what is not there yet."""
MIN_SHARED_MEMORY = 2**25
"""Bytes; in a container /dev/shm may be tiny, or not there at all."""
CAUSES = ("FATAL:", "PANIC:", "ERROR:", "error:")
"""What a line with the cause holds, among the lines of a program that failed."""
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "log_min_error_statement": "panic",  # a statement that is refused would bring codes into the log
}


def is_initialised(directory: Path) -> bool:
    """Whether there is a server's data in `directory`."""
    with suppress(PermissionError):
        return (directory / "data" / "PG_VERSION").exists()
    return False


@contextmanager
def embedded_postgres(directory: Path, *, options: dict[str, str] | None = None) -> Iterator[str]:
    """A running server over `directory`, as the libpq URL of its database; started, or shared where it runs already.

    `options` are server settings for a server that is started here. It stops when the last process that uses it leaves;
    after a kill -9 of that one, when the next one leaves. Raises `DatabaseUnavailable` with the cause.
    """
    with _explained(directory, "start"):
        server = _Server(directory.expanduser())
        with server.locked():
            users = lock(server.directory / "users.lock", fcntl.LOCK_SH)
    try:
        with _explained(directory, "start"), server.locked():
            server.start(options or {})
        yield server.url(DATABASE)
    finally:
        with _explained(directory, "stop"), server.locked():
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                server.stop()
            except BlockingIOError:
                pass  # somebody else still uses it
            finally:
                os.close(users)


def forget_libpq_variables() -> None:
    """Forget this process's PGHOSTADDR, PGSERVICE and the like.

    They are about another server, and libpq puts some of them before what a URL says.
    """
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


class _Server:
    def __init__(self, directory: Path) -> None:
        self._account = server_account(directory / "data")
        self.directory = make_own_directory(directory)
        refuse_if_out_of_reach(self.directory, self._account)
        self._data = self.directory / "data"
        with suppress(FileNotFoundError):
            refuse_if_shared(self._data, {self._account.uid})
        self._sockets = Sockets(self.directory, self._data, self._account)

    @cached_property
    def _programs(self) -> Path:
        return programs_for(self._account, self.directory)

    def locked(self) -> AbstractContextManager[None]:
        """Nobody else starts or stops the server meanwhile."""
        return locked(self.directory / "starting.lock", fcntl.LOCK_EX)

    def start(self, options: dict[str, str]) -> None:
        """Make sure that the server runs, accepts connections and has its database."""
        if (process := self._process()) and self._sockets.path() is None:
            self._end(process)  # nobody can find it any more
        if not is_initialised(self.directory):
            self._initialise(options)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._is_ready():
            if self._process() is None:
                self._launch(options)
            elif time.monotonic() > deadline:
                raise TimeoutError(f"it has not accepted connections for {START_TIMEOUT_S} s")
            else:
                time.sleep(0.1)  # starting, recovering or stopping under a process that was killed meanwhile

    def stop(self) -> None:
        """Stop the server: sessions are cut, nothing is lost. One that died by itself is stopped already."""
        if process := self._process():
            self._end(process)
        self._sockets.remove()

    def url(self, database: str) -> str:
        """How to connect, by libpq. Only the server's own user (and root) can reach the socket."""
        path = quote(os.fsencode(self._sockets.make()), safe="/")
        return f"postgresql://{SUPERUSER}@/{database}?host={path}&port=5432"

    def _initialise(self, options: dict[str, str]) -> None:
        # Moved into place when it is whole: a kill -9 in the middle must not leave what looks like a database.
        unfinished = self.directory / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        os.chown(unfinished, self._account.uid, self._account.gid)
        settings = [f"--set={name}={value}" for name, value in _of_this_machine().items()]
        how = ["--no-sync"] if options.get("fsync") == "off" else []
        self._run(
            "initdb", "-D", str(unfinished), "-U", SUPERUSER, "--auth=peer", "--encoding=UTF8", *settings, *how,
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-locale", "--no-instructions",
        )  # fmt: skip
        unfinished.rename(self._data)

    def _launch(self, options: dict[str, str]) -> None:
        # Left by a server that was killed: its process id may be another program's by now, and would stop the start.
        sockets = self._sockets.make()
        for left in (self._data / "postmaster.pid", sockets / ".s.PGSQL.5432.lock"):
            left.unlink(missing_ok=True)
        settings = SETTINGS | _of_this_machine() | access_rules(self.directory, self._account)
        settings |= {"unix_socket_directories": str(sockets), **options}
        # By pg_ctl's own -D the path would be read by a shell.
        arguments = [f"-D {shlex.quote(str(self._data))}"]
        arguments += [f"-c {name}={shlex.quote(value)}" for name, value in settings.items()]
        # Without -l the server would keep our own output open, and whoever reads it would wait for ever.
        options_of_pg_ctl = ("-w", "-t", str(START_TIMEOUT_S), "-l", "server.log", "-o", " ".join(arguments))
        try:
            self._run("pg_ctl", "start", *options_of_pg_ctl, cwd=self._data, PGDATA=str(self._data))
        except subprocess.CalledProcessError as error:
            raise ChildProcessError(f"{_last_words(error)}; its log ends: {self._end_of_log()}") from error

    def _is_ready(self) -> bool:
        address = self.url("postgres")
        if pq.PGconn.ping(address.encode()) != pq.Ping.OK:
            return False
        try:
            with psycopg.connect(address, autocommit=True, connect_timeout=10) as connection:
                exists = connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
                if exists is None:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
                # So would the detail of a refusal; not for the whole server, which needs it to say why it cannot start.
                terse = sql.SQL("ALTER DATABASE {} SET log_error_verbosity = terse")
                connection.execute(terse.format(sql.Identifier(DATABASE)))
                return True
        except psycopg.OperationalError:
            if pq.PGconn.ping(address.encode()) == pq.Ping.OK:
                raise  # it is not the server that is away: waiting would not help
            return False

    def _process(self) -> psutil.Process | None:
        """The running server."""
        try:
            process = psutil.Process(int((self._data / "postmaster.pid").read_text().partition("\n")[0]))
            is_it = process.uids().real == self._account.uid and str(self._data) in " ".join(process.cmdline())
        except (FileNotFoundError, ValueError, psutil.Error):
            return None
        return process if is_it else None

    def _end(self, process: psutil.Process) -> None:
        deadline = time.monotonic() + STOP_TIMEOUT_S
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGINT)  # a fast shutdown
            # Dead is also whose burial the first process of a container never sees to.
            while process.status() != psutil.STATUS_ZOMBIE:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"its process {process.pid} has not ended for {STOP_TIMEOUT_S} s")
                time.sleep(0.02)

    def _run(self, program: str, *arguments: str, cwd: Path | None = None, **variables: str) -> None:
        self._account.run(self._programs / program, *arguments, cwd=cwd or self.directory, **variables)

    def _end_of_log(self) -> str:
        # Not through a symbolic link: the server's user could show itself by it what root may read.
        with open(self._data / "server.log", opener=_not_through_links, encoding="utf-8", errors="replace") as log:
            return " | ".join(log.read().splitlines()[-3:])


def _not_through_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)


def _of_this_machine() -> dict[str, str]:
    """Settings for memory that a container may not have, which initdb would die of too."""
    kind = "mmap"
    with suppress(OSError):
        found = os.statvfs("/dev/shm")  # noqa: S108 - only looked at
        if found.f_bavail * found.f_frsize >= MIN_SHARED_MEMORY and not found.f_flag & os.ST_RDONLY:
            kind = "posix"
    # Where huge pages are promised and not there, using them ends in a bus error.
    return {"dynamic_shared_memory_type": kind, "huge_pages": "off"}


@contextmanager
def _explained(directory: Path, what: str) -> Iterator[None]:
    """Errors while the server starts or stops become `DatabaseUnavailable`, with the cause and the next step."""
    try:
        yield
    except (OSError, subprocess.SubprocessError, psycopg.Error, LookupError, ValueError) as error:
        raise DatabaseUnavailable(
            f"the embedded PostgreSQL in {directory} did not {what}: {_cause(error)}. "
            f"Mend that, or set DATABASE_URL to a PostgreSQL of your own."
        ) from error


def _cause(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return _last_words(error)
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.filename or 'the operating system'}: {error.strerror}"
    return str(error)


def _last_words(error: subprocess.CalledProcessError) -> str:
    """What a program said before it failed, without what it did about it."""
    lines = [line.strip() for line in (error.stderr or error.stdout or "").splitlines() if line.strip()]
    causes = [line for line in lines if any(word in line for word in CAUSES)]
    return " ".join(causes[:2] or lines[-2:]) or str(error)
