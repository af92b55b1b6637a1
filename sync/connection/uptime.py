"""For how long this machine runs, by a clock that goes on while it sleeps, and that nobody steps.

Processes of one boot share it, and so know of each other's instants how old they are. Others cannot: see `Uptime.boot`.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid5

TOLERANCE_S = 1.0
"""The kernel's file is read a moment before the clock is."""
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Uptime:
    """`ms` milliseconds since the boot that is named `boot`: of another one nothing follows."""

    boot: UUID
    ms: int

    def since_s(self, earlier: "Uptime") -> float:
        """Seconds from `earlier` to this, 0 at least; 0 where nobody knows, since it was another boot's."""
        return max(0, self.ms - earlier.ms) / 1000 if self.boot == earlier.boot else 0.0


def read_uptime() -> Uptime | None:
    """None where a system has none (not Linux), or tells this process another one than the machine's.

    libfaketime makes up what the clock says and lxcfs what the file does, each for some processes of a boot and not for
    others: only where both agree is it the machine's. A time namespace makes up both, and has a name of its own here.
    """
    if sys.platform != "linux":
        return None
    try:
        told_s = float((_PROC / "uptime").read_text().split()[0])
        now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        boot = UUID((_PROC / "sys/kernel/random/boot_id").read_text().strip())
        namespace = time_namespace()
    except (OSError, ValueError, IndexError):
        return None
    return Uptime(uuid5(boot, namespace), int(now_s * 1000)) if abs(now_s - told_s) < TOLERANCE_S else None


def time_namespace() -> str:
    """The name of this process's time namespace, and by how much its clocks are shifted."""
    try:
        # Of one that has ended the kernel gives the name to the next one at once, however that is shifted.
        return f"{(_PROC / 'self/ns/time').readlink()} {(_PROC / 'self/timens_offsets').read_text()}"
    except FileNotFoundError:  # a kernel that has no such namespaces
        return ""
