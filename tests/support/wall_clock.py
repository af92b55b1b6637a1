"""This machine's wall clock, stepped: within the tests' process, or by libfaketime in a process of its own."""

from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import apscheduler.schedulers.base
import pytest

import sync.service.schedule

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
STEPS = [-DAY, -HOUR, HOUR, DAY]
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))

needs_libfaketime = pytest.mark.skipif(not LIBRARIES, reason="libfaketime is not installed (Debian: faketime)")


class WallClock:
    """What the scheduler takes for this machine's wall clock; its monotonic one stays as it is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shift = timedelta()
        clock = self

        class Stepped(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]  # a plain one will do
                return datetime.now(tz) + clock.shift

        monkeypatch.setattr(apscheduler.schedulers.base, "datetime", Stepped)
        monkeypatch.setattr(sync.service.schedule, "datetime", Stepped)

    def step(self, shift: timedelta) -> None:
        """Sets the clock, from one instant to the next."""
        self.shift += shift


class ProcessClock:
    """The wall clock of a process that is started with `environment`; its monotonic clock is the machine's."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "wall-clock"
        self._shift = timedelta()
        self.step(timedelta())

    @property
    def environment(self) -> dict[str, str]:
        """What the process is started with."""
        return {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def step(self, shift: timedelta) -> None:
        """Sets the clock, from one instant to the next."""
        self._shift += shift
        new = self._file.with_suffix(".new")
        new.write_text(f"{self._shift.total_seconds():+.0f}s\n")
        new.chmod(0o644)  # root's server runs as another user, whatever the umask here
        new.replace(self._file)
