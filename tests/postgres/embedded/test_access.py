"""Who gets at a server: its own user and root, and nobody else, wherever it listens."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sync.postgres.embedded import embedded_postgres
from tests.postgres.embedded.helpers import (
    AS_ROOT,
    QUICK,
    STRANGER,
    copy_wheel,
    kill,
    open_directory,
    run_as,
    server_of,
)

CONNECT = """
try:
    psycopg.connect(f"postgresql://postgres@/postgres?host={directory}&port=5432")
    print("is in")
except psycopg.OperationalError as error:
    print(error)
"""
SERVE = """
with embedded_postgres(directory, options={"fsync": "off"}) as url, psycopg.connect(url) as connection:
    print(connection.execute("SELECT current_user").fetchone())
"""
MAKE_A_LINK = """
(directory / "link").symlink_to(directory)
"""


def make_server(directory: Path) -> None:
    """Makes the data of a server that will never wait for a disk."""
    with embedded_postgres(directory, options=QUICK) as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")


@pytest.fixture(scope="module")
def short() -> Iterator[Path]:
    """A directory with a server's data, where its socket lies among them."""
    with open_directory() as path:
        make_server(path)
        yield path


@pytest.fixture(scope="module")
def long() -> Iterator[Path]:
    """One whose path is too long for a socket."""
    with open_directory() as path:
        directory = path / ("x" * 100)
        make_server(directory)
        yield directory


def sockets(connection: psycopg.Connection) -> Path:
    """Where the server listens."""
    return Path(connection.info.host)


@pytest.mark.long
@AS_ROOT
def test_another_user_does_not_reach_the_socket(short: Path) -> None:
    with embedded_postgres(short):
        assert "Permission denied" in run_as(STRANGER, CONNECT, short / "data")


@pytest.mark.long
@AS_ROOT
@pytest.mark.parametrize("trusting", [False, True], ids=["made now", "made by a release that trusted everybody"])
def test_another_user_who_reaches_the_socket_is_not_let_in(short: Path, trusting: bool) -> None:
    rules = (short / "data/pg_hba.conf").read_text()
    if trusting:
        (short / "data/pg_hba.conf").write_text("local all all trust\n")
    with embedded_postgres(short) as url, psycopg.connect(url) as connection:
        mine = sockets(connection)
        mine.chmod(0o711)
        (mine / ".s.PGSQL.5432").chmod(0o777)
        assert "Peer authentication failed" in run_as(65534, CONNECT, mine)
        assert "is in" not in run_as(STRANGER, CONNECT, mine)
    (short / "data").chmod(0o700)
    (short / "data/pg_hba.conf").write_text(rules)


def test_its_own_users_are_let_in_as_any_user_of_the_database(short: Path) -> None:
    with embedded_postgres(short) as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE reader LOGIN")
        with psycopg.connect(url, user="reader") as other:
            assert other.execute("SELECT current_user").fetchone() == ("reader",)
        connection.execute("DROP ROLE reader")
        assert (sockets(connection) / ".s.PGSQL.5432").stat().st_mode & 0o777 == 0o700


def test_the_server_gets_nothing_of_our_environment(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = {"MEWS_ACCESS_TOKEN": "secret", "PGPORT": "6543", "PGDATA": "/nowhere", "LD_LIBRARY_PATH": "/nowhere"}
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    with embedded_postgres(short) as url, psycopg.connect(url):
        for process in (server_of(short), *server_of(short).children()):
            environment = process.environ()
            assert not set(environment) & (set(ours) - {"PGDATA"})
            assert not set(environment.values()) & set(ours.values())


@AS_ROOT
def test_a_name_in_the_temporary_folder_that_others_have_taken_does_not_stop_it(long: Path) -> None:
    # Where a release before listened: a name that could be told beforehand.
    name = hashlib.sha256(os.fsencode(long / "data")).hexdigest()[:16]
    taken = Path(tempfile.gettempdir()) / f"voucher-sync-{name}"
    with open_directory() as trap:
        taken.symlink_to(trap)
        try:
            with embedded_postgres(long) as url, psycopg.connect(url) as connection:
                assert sockets(connection).resolve() not in {trap, taken}
                assert list(trap.iterdir()) == []
        finally:
            taken.unlink()


@pytest.mark.sampled
@AS_ROOT
@pytest.mark.parametrize("trap", ["a directory", "a link", "nothing"])
def test_a_directory_for_the_socket_that_is_not_the_servers_is_not_used(long: Path, trap: str) -> None:
    with open_directory() as place:
        if trap == "a directory":
            os.chown(place, STRANGER, STRANGER)
        elif trap == "a link":
            os.chown(place, STRANGER, STRANGER)
            run_as(STRANGER, MAKE_A_LINK, place)
        (long / "sockets").symlink_to(place / {"a directory": ".", "a link": "link", "nothing": "nothing"}[trap])
        with embedded_postgres(long) as url, psycopg.connect(url) as connection:
            assert not sockets(connection).is_relative_to(place)
            assert sockets(connection).lstat().st_mode & 0o077 == 0
        assert place.is_dir()


@pytest.mark.long
def test_a_server_that_is_started_again_under_its_users_listens_where_it_did(long: Path) -> None:
    with embedded_postgres(long) as url:
        kill(server_of(long))
        with embedded_postgres(long) as again, psycopg.connect(url):
            assert again == url


@pytest.mark.long
@AS_ROOT
def test_it_serves_a_user_who_is_not_root() -> None:
    with open_directory() as place:
        copy_wheel(place / "site")
        (place / "mine").mkdir()
        os.chown(place / "mine", 65534, 65534)
        assert run_as(65534, SERVE, place / "mine" / "deeper", place / "site") == "('postgres',)\n"
        assert (place / "mine/deeper/data").stat().st_uid == 65534
