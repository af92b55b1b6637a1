"""The witness: a file outside the database that remembers how far the database was worked with.

It is written after the commit that it tells of, so a database that is behind the file has lost commits. A file that is
behind its database vouches for none whose server was started since.

Each claim writes it before anything is sent. So it is written over in place, in one block of the disk, which takes half
the time of a new file that is moved over the old one.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from uuid import UUID, uuid4

import platformdirs

from sync.core.errors import SettingsError
from sync.logger import structlog

OURS = "voucher-sync"
SIZE = 256
"""Bytes of a file: less than the 512 that a disk writes as a whole or not at all."""

LARGEST = 2**62
"""No database has come so far, and each could go further."""
READ_AGAIN = 10
PLACE = "place"
NO_HOME = "this user has no home"

log = structlog.get_logger()


def state_directory(setting: str | None) -> Path | None:
    """Where witnesses lie: SYNC_STATE_DIR, else systemd's, else below the user's data; None without a home."""
    if given := setting or os.environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return _from_home(given)
    try:
        return platformdirs.user_data_path(OURS) / "state"
    except RuntimeError:
        return None


def _from_home(given: str) -> Path:
    """A path that may begin with `~`, which no shell replaces in an `.env` or a unit."""
    try:
        return Path(given).expanduser()
    except RuntimeError:
        raise SettingsError(f"SYNC_STATE_DIR: {given} begins with a home, and {NO_HOME}: name it from / on") from None


class Witness:
    """The file of each incarnation in a directory. What cannot be read or written is told once, and done without."""

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory
        self._is_told = False

    @cached_property
    def place(self) -> UUID:
        """The name of the directory, which whoever moves a position on leaves; one of this process without any."""
        if self.directory is None:
            return uuid4()
        path = self.directory / PLACE
        try:
            if not path.exists():
                _name(path)
            return UUID(path.read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            self._tell(error)
            return uuid4()

    def require_room(self) -> None:
        """`OSError` where nothing could be remembered here. Leaves nothing behind, and does not make the directory."""
        if self.directory is None:
            raise FileNotFoundError(NO_HOME)
        there = next(one for one in (self.directory, *self.directory.absolute().parents) if one.exists())
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(SIZE))
            file.flush()
            os.fsync(file.fileno())

    def read(self, incarnation: UUID) -> int | None:
        """The last position that was seen committed; None: nobody here has worked with this incarnation."""
        if self.directory is None:
            return None
        try:
            return _position(_path(self.directory, incarnation))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._tell(error)
            return None

    def write(self, incarnation: UUID, position: int) -> None:
        """Remember a position that is committed, unless another process of this place has remembered a later one."""
        if self.directory is None:
            self._tell(FileNotFoundError(NO_HOME))
            return
        if (self.read(incarnation) or 0) > position:
            return
        path = _path(self.directory, incarnation)
        told = {"incarnation": str(incarnation), "position": position, "once_more": position}
        content = json.dumps(told).ljust(SIZE).encode()
        try:
            if not _written_over(path, content):
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                with _written_beside(path, content) as unfinished:
                    unfinished.replace(path)
        except OSError as error:
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        if not self._is_told:
            self._is_told = True
            log.warning("no_witness", directory=str(self.directory), why=f"{type(error).__name__}: {error}")


def _name(path: Path) -> None:
    """Give a directory a name, unless another process has done so first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _written_beside(path, str(uuid4()).encode()) as unfinished, suppress(FileExistsError):
        os.link(unfinished, path)


def _position(path: Path) -> int:
    """The position in a file. `ValueError` where it is half of one and half of another, as while it is written over,
    or none that a database can have.
    """
    for _ in range(READ_AGAIN):
        told = json.loads(path.read_text(encoding="utf-8"))
        position = told["position"]
        if type(position) is not int or not 0 <= position <= LARGEST:
            raise ValueError("it says no position")
        if told.get("once_more", position) == position:
            return position
    raise ValueError("it says two positions")


def _written_over(path: Path, content: bytes) -> bool:
    """Whether a file was there to be written over."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        if os.fstat(descriptor).st_size != len(content):
            return False
        os.pwrite(descriptor, content, 0)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    return True


@contextmanager
def _written_beside(path: Path, content: bytes) -> Iterator[Path]:
    """A file of this content, to be put in the place of `path`; it is gone afterwards."""
    # Not by the process's number: of two containers that share the directory, both may have the same.
    unfinished = path.with_name(f"{path.name}.{uuid4()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield unfinished
    finally:
        unfinished.unlink(missing_ok=True)


def _path(directory: Path, incarnation: UUID) -> Path:
    return directory / f"witness-{incarnation}.json"
