"""For how long the machine runs: what a process is told of it counts only where it is the machine's."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from sync.connection.uptime import Uptime, read_uptime
from tests.support.wall_clock import LIBRARIES, needs_libfaketime

READ = """
import json
from sync.connection.uptime import read_uptime
uptime = read_uptime()
print(json.dumps(uptime and [str(uptime.boot), uptime.ms]))
"""
BOOT, MOUNTS = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/mounts")
pytestmark = [
    pytest.mark.skipif(not BOOT.exists(), reason="this system names no boots"),
    pytest.mark.skipif(MOUNTS.exists() and "/proc/uptime" in MOUNTS.read_text(), reason="lxcfs makes up the uptime"),
]


def read_by(*before: str, **environment: str) -> Uptime | None:
    """What a process reads that is started by the command `before`; skips where this user may not start it."""
    if missing := [program for program in before[:1] if shutil.which(program) is None]:
        pytest.skip(f"there is no {missing[0]} on PATH")
    command = [*before, sys.executable, "-c", READ]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **environment})
    if ended.returncode != 0:
        assert before, ended.stderr
        pytest.skip(f"not possible here: {ended.stderr}")
    told = json.loads(ended.stdout)
    return told and Uptime(UUID(told[0]), told[1])


def test_processes_of_a_boot_read_the_same_one_and_it_goes_on() -> None:
    here = read_uptime()
    there = read_by()
    assert here is not None
    assert there is not None
    assert there.boot == here.boot
    assert 0 < there.since_s(here) < 60


@needs_libfaketime
def test_a_clock_that_is_made_up_is_not_believed() -> None:
    assert read_by(LD_PRELOAD=str(LIBRARIES[0]), FAKETIME="+1d") is None


def test_a_file_that_is_made_up_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "uptime").write_text("17.05 12.00\n")
    mount = f'mount --bind {tmp_path}/uptime /proc/uptime && exec "$@"'
    assert read_by("unshare", "--mount", "sh", "-c", mount, "sh") is None


def test_another_time_namespace_is_another_boot() -> None:
    here, there = read_uptime(), read_by("unshare", "--time", "--boottime", "100000")
    assert here is not None
    assert there is not None
    assert there.since_s(here) == 0.0 < there.ms - here.ms


def test_a_time_namespace_that_has_the_name_of_one_before_is_another_boot() -> None:
    one, next_one = (read_by("unshare", "--time", "--boottime", shift) for shift in ("100000", "200000"))
    assert one is not None
    assert next_one is not None
    assert next_one.since_s(one) == 0.0 < next_one.ms - one.ms
