"""A server of a test's own, whose files are copied, put back and promoted as an operator does it."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import psutil
import psycopg

from sync.postgres.embedded import embedded_postgres, temporary_directory
from tests.support.postgres import as_owner_of, wait_for_server
from tests.support.wall_clock import ProcessClock


class PhysicalServer:
    """A server that is stopped, killed and started again by the command that first started it."""

    def __init__(self, directory: Path, command: list[str], url: str, environment: Mapping[str, str]) -> None:
        self.url = url
        self._environment = os.environ | environment
        self.data = directory / "data"
        self._backup = directory / "backup"
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits until it answers."""
        log = self.data.parent / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.data,
                env=self._environment, **as_owner_of(self.data),
            )  # fmt: skip
        assert self._process is not None
        wait_for_server(self.url, self._process, log)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stops it, and waits for its end."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def back_up(self) -> None:
        """Keeps the files as they are now."""
        self.stop()
        subprocess.run(["cp", "--archive", str(self.data), str(self._backup)], check=True)
        self.start()

    def put_back(self, *, promote: bool) -> None:
        """The files of the backup in place of the present ones; promoted, as a standby that had come no further."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.data)
        subprocess.run(["cp", "--archive", str(self._backup), str(self.data)], check=True)
        if promote:
            (self.data / "standby.signal").touch()
        self.start()
        if promote:
            with psycopg.connect(self.url, autocommit=True) as admin:
                admin.execute("SELECT pg_promote()")


@contextmanager
def stepped_server() -> Iterator[tuple[str, ProcessClock]]:
    """The URL of a server with an empty database, and its wall clock."""
    with temporary_directory("voucher-sync-clock-") as directory:
        directory.chmod(0o755)  # root's server runs as another user
        clock = ProcessClock(directory)
        with physical_server(clock.environment) as server:
            yield server.url, clock


@contextmanager
def physical_server(environment: Mapping[str, str] = MappingProxyType({})) -> Iterator[PhysicalServer]:
    """A server with an empty database, gone afterwards; `environment` is beside the one that there is."""
    with temporary_directory("voucher-sync-physical-") as directory:
        with embedded_postgres(directory) as url:
            pid = int((directory / "data" / "postmaster.pid").read_text().split()[0])
            command = psutil.Process(pid).cmdline()
        server = PhysicalServer(directory, command, url, environment)
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)
