"""The processes of this machine, and which of them are known to have ended."""

import os
from dataclasses import dataclass
from pathlib import Path

from sync.connection.uptime import time_namespace

_PROC = Path("/proc")
_STARTED = 19
"""Where `stat` has a process's start, counted from behind its name, which may hold anything; see proc(5)."""


@dataclass(frozen=True, slots=True)
class OsProcess:
    """A process. `space`: where its number is no other's, empty where nothing tells; `started`: when, in that space."""

    space: str
    pid: int
    started: str

    @classmethod
    def current(cls) -> "OsProcess":
        """This one."""
        return cls(_find_space(), os.getpid(), _started(os.getpid()))

    @classmethod
    def parse(cls, words: str) -> "OsProcess | None":
        """What `str` has made of one; None of anything else."""
        space, _, rest = words.rpartition(" pid ")
        pid, _, started = rest.partition(" ")
        return cls(space, int(pid), started) if pid.isdecimal() else None

    def __str__(self) -> str:
        return f"{self.space} pid {self.pid} {self.started}"

    @property
    def is_here(self) -> bool:
        """Whether it is known to be, or to have been, of this machine since that was started."""
        return bool(self.space) and self.space == _find_space()

    def is_gone(self) -> bool:
        """Whether it is known to have ended, on this machine; one of another machine never is."""
        if not self.is_here:
            return False
        started = _started(self.pid)
        return is_gone(self.pid) or (bool(self.started and started) and self.started != started)


def find_pid_space() -> str:
    """Where this process's number is no other's: a boot of this machine, and a namespace; empty where nothing tells.

    Of two containers that live the namespaces differ; one that is started anew may be given that of the one before.
    """
    try:
        return f"{(_PROC / 'sys/kernel/random/boot_id').read_text().strip()} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def is_gone(pid: int) -> bool:
    """Whether this process's space has no process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's
        return False
    return False


def _find_space() -> str:
    """As `find_pid_space`, and where instants of processes are told alike."""
    try:
        space = find_pid_space()
        return space and f"{space} {' '.join(time_namespace().split())}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process was started, in ticks since the boot; empty where it is not told, as of somebody else's."""
    try:
        return (_PROC / f"{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[_STARTED]
    except (OSError, IndexError):
        return ""
