"""What was told, in a file beside the witness: a process that begins while the database is away knows it from there."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from sync.alerts.conditions import Key, Kind
from sync.alerts.store import Known, Untold
from sync.logger import structlog

log = structlog.get_logger()


class Kept:
    """A process's own file, and those that others have left for the same `database`, whose name is no secret.

    Nobody waits for another or writes over what that has written. Where there is no `directory`, or it takes nothing,
    nothing is kept.
    """

    def __init__(self, directory: Path | None, database: str) -> None:
        self._directory = directory
        self._prefix = f"told-{hashlib.sha256(database.encode()).hexdigest()[:16]}-"
        self._name = f"{self._prefix}{uuid4()}.json"
        self._content = ""
        self._left = list[Path]()
        self._is_told = False

    def load(self) -> tuple[dict[Key, Known], dict[Key, Untold]]:
        """What others were told to hold, and what of all that was told the database does not know."""
        known, unnoted = dict[Key, Known](), dict[Key, Untold]()
        self._left = [] if self._directory is None else sorted(self._directory.glob(f"{self._prefix}*.json"))
        for path in self._left:
            try:
                left = json.loads(path.read_text(encoding="utf-8"))
                known |= {(name, Kind(kind)): Known(level, level) for name, kind, level in left["known"]}
                unnoted |= {one.key: one for one in map(_untold, left["unnoted"])}
            except (OSError, ValueError, KeyError, TypeError) as error:
                self._tell(error)
        return known, unnoted

    def keep(self, known: Mapping[Key, Known], unnoted: Mapping[Key, Untold]) -> None:
        """Leave this to whoever begins next."""
        holds = sorted((*key, one.told_level) for key, one in known.items() if one.told_level)
        told = [asdict(one) | {"since": one.since.isoformat()} for one in unnoted.values()]
        content = json.dumps({"known": holds, "unnoted": told}) if holds or told else ""
        if self._directory is None or content == self._content:
            return
        path = self._directory / self._name
        try:
            if content:
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                _write(path, content)
            else:
                path.unlink(missing_ok=True)
            self._content = content
        except OSError as error:
            self._tell(error)

    def take_over(self) -> None:
        """What others have left stands in the database now, and in this process's own file."""
        try:
            for path in self._left:
                path.unlink(missing_ok=True)
            self._left = []
        except OSError as error:
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        if not self._is_told:
            self._is_told = True
            why = f"{type(error).__name__}: {error}"
            log.warning("told_not_kept", directory=str(self._directory), why=why)


def _untold(left: Any) -> Untold:
    since = datetime.fromisoformat(left["since"])
    return Untold(left["connection"], Kind(left["kind"]), int(left["level"]), left["summary"], since)


def _write(path: Path, content: str) -> None:
    """Whole or not at all; for this user alone, since errors name hosts."""
    beside = path.with_suffix(".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
    beside.replace(path)
