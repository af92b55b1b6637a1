"""Where the embedded server listens, and to whom: to its own user and to root, and to nobody else."""

import os
import pwd
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from sync.postgres.embedded.account import Account, is_root
from sync.postgres.embedded.directories import TEMPORARY, refuse_if_shared

MAX_PATH = 88
"""The kernel's limit on the path of a socket is 104 to 108 bytes, of which `/.s.PGSQL.5432` takes 15."""
LINK = "sockets"
"""Names the directory for the socket, where that is not the data's own."""
MAP = "voucher_sync"


class Sockets:
    """The place of a server's socket: its data, or a directory with a short name where a socket can't lie in there."""

    def __init__(self, directory: Path, data: Path, account: Account) -> None:
        self._account = account
        self._link = directory / LINK
        self._data = None if _needs_another(data) else data

    def path(self) -> Path | None:
        """The directory, if there is one that nobody else could listen in."""
        if self._data is not None:
            return self._data
        try:
            path = self._link.readlink()
            refuse_if_shared(path, {self._account.uid})
        except OSError:
            return None
        return path

    def make(self) -> Path:
        """The directory, made where there is none: with a name drawn by chance, which nobody can have taken before."""
        if (path := self.path()) is not None:
            return path
        new = Path(tempfile.mkdtemp(prefix="voucher-sync-", dir=_short_place()))
        os.chown(new, self._account.uid, self._account.gid)
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(new)
        return new

    def remove(self) -> None:
        """Remove the directory, once nobody listens in it."""
        if self._data is None and (path := self.path()) is not None:
            shutil.rmtree(path, ignore_errors=True)
            self._link.unlink()


def access_rules(directory: Path, account: Account) -> dict[str, str]:
    """The server's settings that let in its own user and root, as any user of the database, and nobody else.

    In files of ours, since the server's user could lead root astray with a symbolic link among its data.
    """
    root = "root"
    with suppress(KeyError):
        root = pwd.getpwuid(0).pw_name
    names = dict.fromkeys([account.name, root])
    rules = f"local all all peer map={MAP}\n"
    idents = "".join(f'{MAP} "{name}" all\n' for name in names)
    return {
        "hba_file": _written(directory / "hba.conf", rules),
        "ident_file": _written(directory / "ident.conf", idents),
    }


def _written(path: Path, text: str) -> str:
    path.unlink(missing_ok=True)
    path.write_text(f"# Written by voucher-sync at each start.\n{text}")
    path.chmod(0o644)
    return str(path)


def _needs_another(data: Path) -> bool:
    # A comma divides the directories in PostgreSQL's setting, and the hosts in libpq's URL; a quote begins a name.
    path = os.fsencode(data)
    try:
        path.decode("utf-8")
    except UnicodeDecodeError:
        return True  # psycopg reads a URL as UTF-8
    return len(path) > MAX_PATH or bool({b","[0], b'"'[0]} & set(path))


def _short_place() -> Path:
    """A directory that is there, short, and in which nobody can replace another user's directory."""
    temporary = []
    with suppress(FileNotFoundError):
        temporary = [Path(tempfile.gettempdir()).absolute()]
    places = [*([Path("/run")] if is_root() else []), *temporary, *TEMPORARY, Path("/dev/shm")]  # noqa: S108 - drawn
    for place in places:
        if len(os.fsencode(place)) <= MAX_PATH // 2 and not _needs_another(place) and _is_safe(place):
            return place
    raise FileNotFoundError(f"no directory for a socket can be used of {', '.join(map(str, places))}")


def _is_safe(place: Path) -> bool:
    if not os.access(place, os.W_OK | os.X_OK):
        return False
    found = place.stat()
    return found.st_uid in {0, os.geteuid()} and bool(not found.st_mode & 0o022 or found.st_mode & 0o1000)
