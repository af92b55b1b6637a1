"""Runs a command and writes down what it took: `measured.py FILE COMMAND...`.

A process of its own because a child's peak memory counts from the fork, when it still is a copy of its parent: below
the benchmark, which holds the simulated world, every command would seem as large as that.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

started_s = time.perf_counter()
process = subprocess.Popen(sys.argv[2:])
_, status, usage = os.wait4(process.pid, 0)
process.returncode = os.waitstatus_to_exitcode(status)
took = {
    "wall_s": time.perf_counter() - started_s,
    "cpu_s": usage.ru_utime + usage.ru_stime,
    "rss_mb": usage.ru_maxrss / 1024,
}
Path(sys.argv[1]).write_text(json.dumps(took), encoding="utf-8")
sys.exit(process.returncode)
