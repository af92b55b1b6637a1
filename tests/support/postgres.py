"""A real PostgreSQL for the tests, and databases on it."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import docker
import psycopg
from docker.errors import DockerException, ImageNotFound
from psycopg import sql
from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.config import testcontainers_config

from sync.postgres.embedded import embedded_postgres, temporary_directory
from sync.postgres.urls import libpq_url

IMAGE = "postgres:18-alpine"
PREFIX = "voucher-sync-tests-"
PATIENCE_S = 30
LEAVING_S = PATIENCE_S
"""How long a session may take to end whose other side is gone."""
DOCKER_SOCKET = "/var/run/docker.sock"
PULL_S = 60
"""How long an engine may say nothing while it gets an image."""
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_connections": "200"}
"""What a database that is gone after the tests has no need for."""
SMALL = {"max_notify_queue_pages": "256", "max_prepared_transactions": "5", "max_wal_size": "128MB"}
"""What tests fill up, or what a server does not do unless it is told to."""
MEMORY, ROOM = Path("/dev/shm"), 2 * 2**30
"""To find room on a disk for a database's 300 files can take a kernel ten times as long as all else of making it."""


@contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of a database on a server where databases may be created.

    TEST_DATABASE_URL if it is set, else a container where a Docker engine answers that has the images or gets them,
    else the embedded server.
    """
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield libpq_url(url)
    elif _docker_runs_postgres():
        command = [
            "postgres",
            *(word for name, value in (NOT_DURABLE | SMALL).items() for word in ("-c", f"{name}={value}")),
        ]
        with PostgresContainer(IMAGE, driver=None).with_command(command) as container:
            yield container.get_connection_url()
    else:
        with _directory() as directory, embedded_postgres(directory, options=NOT_DURABLE | SMALL) as url:
            yield url


@contextmanager
def new_database(server: str, *, template: str = "template1", encoding: str | None = None) -> Iterator[str]:
    """The URL of a new database, a copy of `template`, gone afterwards; with another encoding it must be template0."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as admin:
        make = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        has_choices = admin.info.server_version >= 150_000
        if has_choices:
            make += sql.SQL(" STRATEGY FILE_COPY")  # else all pages go through the WAL, at twice the work
        if encoding:
            make += sql.SQL(" ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C'").format(sql.Literal(encoding))
        if encoding and has_choices:
            make += sql.SQL(" LOCALE_PROVIDER libc")
        admin.execute(make)
    yield in_database(server, name)
    with psycopg.connect(server, autocommit=True) as admin:
        left = sessions_left(admin, name)
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    assert not left, f"the test has left sessions open, each an application and its last statement: {left}"


def sessions_left(admin: "psycopg.Connection[Any]", database: str, but: int = 0) -> list[tuple[str, str]]:
    """Application and last statement of each session that is open, once those that are about to end had time to.

    `but`: so many stay open.
    """
    deadline = time.monotonic() + LEAVING_S
    sessions = """
        SELECT application_name, query FROM pg_stat_activity, pg_sleep(%s)
        WHERE datname = %s AND backend_type = 'client backend'
    """
    left = admin.execute(sessions, (0, database)).fetchall()
    while len(left) > but and time.monotonic() < deadline:
        left = admin.execute(sessions, (0.02, database)).fetchall()
    return left


def in_database(url: str, name: str) -> str:
    """The URL with another database's name in it."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def database_of(url: str) -> str:
    """The name of the database in a URL."""
    return urlsplit(url).path.removeprefix("/")


def as_owner_of(data: Path) -> dict[str, Any]:
    """What has `Popen` run a server as the owner of its files: PostgreSQL refuses to run as root."""
    owner = data.stat()
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}


def wait_for_server(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until a server that was just started accepts connections."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
        else:
            return


@contextmanager
def _directory() -> Iterator[Path]:
    """Where the server lies: in memory, where there is room for the servers of all workers, of 0.1 to 0.3 GB each."""
    if os.access(MEMORY, os.W_OK | os.X_OK) and _runs_programs(MEMORY) and shutil.disk_usage(MEMORY).free >= ROOM:
        with TemporaryDirectory(prefix=PREFIX, dir=MEMORY, ignore_cleanup_errors=True) as name:
            yield Path(name)
    else:
        with temporary_directory(PREFIX) as directory:
            yield directory


def _runs_programs(place: Path) -> bool:
    # A server of a closed checkout runs from a copy beside its data.
    return not os.statvfs(place).f_flag & getattr(os, "ST_NOEXEC", 0)


def _docker_runs_postgres() -> bool:
    # Where nobody listens, the docker package raises an error and leaves its socket open: an error in these tests.
    kind, _, path = (os.environ.get("DOCKER_HOST") or f"unix://{DOCKER_SOCKET}").partition("://")
    if kind == "unix" and not _someone_listens(path):
        return False
    try:
        client = docker.from_env(timeout=5)
    except DockerException:
        return False
    with closing(client):
        return bool(client.ping()) and all(_is_there(client, image) for image in _images())


def _images() -> list[str]:
    """What is started: the server, and what removes it where a run is killed."""
    cleaner = [] if testcontainers_config.ryuk_disabled else [testcontainers_config.ryuk_image]
    return [testcontainers_config.hub_image_name_prefix + image for image in (IMAGE, *cleaner)]


def _is_there(client: docker.DockerClient, image: str) -> bool:
    """Whether the engine has the image, or gets it: behind a closed network every test would fail of that."""
    try:
        client.images.get(image)
    except ImageNotFound:
        with closing(docker.from_env(timeout=PULL_S)) as patient, suppress(DockerException):
            patient.images.pull(image)
            return True
        return False
    return True


def _someone_listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0
