"""A server that recovers, and can only be read, until somebody promotes it."""

import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from sync.postgres.embedded import embedded_postgres
from tests.support.postgres import NOT_DURABLE, as_owner_of, wait_for_server


@contextmanager
def standby() -> Iterator[str]:
    """The URL of a database on it."""
    with tempfile.TemporaryDirectory(prefix="voucher-sync-standby-", ignore_cleanup_errors=True) as name:
        data = Path(name) / "data"
        with embedded_postgres(Path(name), options=NOT_DURABLE) as url:
            command = psutil.Process(int((data / "postmaster.pid").read_text().split()[0])).cmdline()
        (data / "standby.signal").touch()
        with (data / "standby.log").open("wb") as log:
            # The command again that has started it, by its own user.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=data, **as_owner_of(data)
            )
        try:
            wait_for_server(url, process, data / "standby.log")
            yield url
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()
