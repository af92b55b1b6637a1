"""The witness: a file outside the database that remembers how far the database was worked with.

It is written after the commit that it tells of. So it may be behind the database, which is harmless; a database that
is behind the file has lost commits.
"""

import json
import os
from pathlib import Path
from uuid import UUID

import platformdirs
import structlog

OURS = "voucher-sync"

log = structlog.get_logger()


def state_directory(setting: str | None) -> Path | None:
    """Where witnesses lie: SYNC_STATE_DIR, else systemd's, else below the user's data; None without a home."""
    if given := setting or os.environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(given)
    try:
        return platformdirs.user_data_path(OURS) / "state"
    except RuntimeError:
        return None


class Witness:
    """The file of each incarnation in a directory. What cannot be read or written is told once, and done without."""

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory
        self._is_told = False

    def read(self, incarnation: UUID) -> int | None:
        """The last position that was seen committed; None: nobody here has worked with this incarnation."""
        if self.directory is None:
            return None
        try:
            seen = json.loads(_path(self.directory, incarnation).read_text(encoding="utf-8"))
            return int(seen["position"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._tell(error)
            return None

    def write(self, incarnation: UUID, position: int) -> None:
        """Remember a position that is committed."""
        if self.directory is None:
            self._tell(FileNotFoundError("this user has no home"))
            return
        path = _path(self.directory, incarnation)
        unfinished = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"incarnation": str(incarnation), "position": position}, file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except OSError as error:
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        if not self._is_told:
            self._is_told = True
            log.warning("no_witness", directory=str(self.directory), why=f"{type(error).__name__}: {error}")


def _path(directory: Path, incarnation: UUID) -> Path:
    return directory / f"witness-{incarnation}.json"
