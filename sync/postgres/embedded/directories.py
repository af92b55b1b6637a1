"""Where the embedded server lies: in directories that nobody else can write to, and that its user reaches."""

import fcntl
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from sync.core.errors import DatabaseUnavailable
from sync.postgres.embedded.account import Account, is_root, user_name

OURS = "voucher-sync"
"""A directory of this name above the server's is as much ours as that one."""
ROOTS_DIRECTORY = Path("/var/lib") / OURS
"""Where root's server lies: its user must reach it, and root's home is closed to others for a reason."""
NO_PROGRAMS = getattr(os, "ST_NOEXEC", 0)
"""The flag of a file system without programs, where the system tells of it."""
TEMPORARY = (Path("/tmp"), Path("/var/tmp"), Path("/var/lib"))  # noqa: S108 - names in them are drawn by mkdtemp


def default_directory() -> Path:
    """Where the data lies unless told otherwise. `DatabaseUnavailable` for a user without a home."""
    try:
        return (ROOTS_DIRECTORY if is_root() else platformdirs.user_data_path(OURS)) / "postgres"
    except RuntimeError as error:
        raise DatabaseUnavailable(
            "there is no place for an embedded PostgreSQL, since this user has no home: "
            "set DATABASE_URL, or HOME or XDG_DATA_HOME to an absolute path"
        ) from error


@contextmanager
def temporary_directory(prefix: str) -> Iterator[Path]:
    """A directory in which an embedded server can lie, gone afterwards.

    Not always where `tempfile` would make one: root's may be closed to all other users, or no program may run there.
    """
    with tempfile.TemporaryDirectory(prefix=prefix, dir=_temporary_place(), ignore_cleanup_errors=True) as name:
        yield Path(name)


def _temporary_place() -> Path:
    try:
        places = [Path(tempfile.gettempdir()).absolute(), *TEMPORARY]
    except FileNotFoundError:
        places = [*TEMPORARY]
    usable = [place for place in places if os.access(place, os.W_OK | os.X_OK) and _is_open(place)]
    if not usable:
        told = ", ".join(str(place) for place in dict.fromkeys(places))
        raise DatabaseUnavailable(f"no directory for temporary files can be used of {told}: set TMPDIR to one")
    return next((place for place in usable if not os.statvfs(place).f_flag & NO_PROGRAMS), usable[0])


def _is_open(place: Path) -> bool:
    return not is_root() or closed_to_others(place) is None


def closed_to_others(path: Path) -> Path | None:
    """The first directory on the way to and with `path` that other users cannot pass, as far as its mode tells."""
    way = [*reversed(path.parents), path]
    return next((one for one in way if not one.stat().st_mode & stat.S_IXOTH), None)


def make_own_directory(directory: Path) -> Path:
    """Make `directory`, whatever the umask, or see that what is there can be trusted; its path without symbolic links.

    For root it is open for passing through, since the server's user must reach its data below. `PermissionError` where
    it is not ours alone.
    """
    if any(ord(character) < 32 for character in str(directory)):
        raise ValueError("a path with a line break or another control character is none that PostgreSQL can work with")
    for path in (directory, *directory.parents):
        if path.is_symlink() and path.lstat().st_uid not in {0, os.geteuid()}:
            raise PermissionError(f"{path} is a symbolic link that {user_name(path.lstat().st_uid)} made: remove it")
    directory = directory.resolve()
    mode = 0o711 if is_root() else 0o700
    for path in (*reversed(directory.parents), directory):
        is_ours = path == directory or (path == directory.parent and path.name == OURS)
        if not path.exists():
            _make(path, mode)
        elif is_ours:
            refuse_if_shared(path, {0, os.geteuid()})
            if is_root():
                path.chmod(mode)
    return directory


def _make(path: Path, mode: int) -> None:
    try:
        path.mkdir(mode=mode, exist_ok=True)
    except OSError as error:
        elsewhere = "" if is_root() else "; XDG_DATA_HOME names another place for what is kept"
        raise OSError(f"{path} cannot be made ({error.strerror}){elsewhere}") from error
    path.chmod(mode)  # whatever the umask


def refuse_if_shared(path: Path, owners: set[int]) -> None:
    """`PermissionError` where another user than these owns a directory, or everybody may write to it."""
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(f"Not a directory: {path}")
    if found.st_uid not in owners:
        mine = " or ".join(user_name(uid) for uid in sorted(owners))
        raise PermissionError(
            f"{path} belongs to {user_name(found.st_uid)}, who could change what lies in it: "
            f"remove it, or give it to {mine} with all that is in it (`chown -R`)"
        )
    if found.st_mode & stat.S_IWOTH:
        raise PermissionError(f"every user may change what lies in {path}: `chmod go-w` it, or remove it")
    if found.st_mode & stat.S_IWGRP and found.st_uid == os.geteuid():
        path.chmod(found.st_mode & ~stat.S_IWGRP)  # left by a umask of 002


def refuse_if_out_of_reach(directory: Path, account: Account) -> None:
    """`PermissionError` where the server's user cannot get to `directory`."""
    try:
        account.run("/bin/sh", "-c", 'cd -- "$1"', "sh", directory)
    except subprocess.CalledProcessError as error:
        closed = closed_to_others(directory.parent)
        why = f", since {closed} is closed to others" if closed else ""
        raise PermissionError(
            f"Permission denied: the user {account.name}, whom the server runs as, cannot reach {directory}{why}"
        ) from error


def lock(path: Path, kind: int) -> int:
    """The descriptor of a file, locked; `kind` is one of `fcntl.flock`'s."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    fcntl.flock(descriptor, kind)
    return descriptor


@contextmanager
def locked(path: Path, kind: int) -> Iterator[None]:
    """Holds the lock while the block runs."""
    descriptor = lock(path, kind)
    try:
        yield
    finally:
        os.close(descriptor)
