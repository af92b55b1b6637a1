"""The embedded server starts, serves what it holds over a socket alone, and stops; what prevents that is told."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from sync.core.errors import DatabaseUnavailable
from sync.postgres.embedded import default_directory, embedded_postgres, psql_path
from tests.postgres.embedded.helpers import QUICK, is_up, server_of, things


@pytest.mark.long
def test_it_starts_serves_and_stops_and_keeps_what_it_holds(directory: Path) -> None:
    assert not is_up(directory)
    with embedded_postgres(directory) as url:
        assert things(url) == [1]
        server = server_of(directory)
    assert not is_up(directory)
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
    assert not (directory / "data" / "postmaster.pid").exists()


@pytest.mark.long
def test_it_serves_a_database_in_utf_8_of_its_own_over_a_socket_alone(directory: Path) -> None:
    with embedded_postgres(directory) as url, psycopg.connect(url) as connection:
        assert connection.info.dbname == "voucher_sync"
        found = connection.execute("SELECT current_setting('listen_addresses'), current_setting('server_encoding')")
        assert found.fetchone() == ("", "UTF8")
        assert connection.info.host == str(directory / "data")
    assert (directory / "data").stat().st_mode & 0o077 == 0


def test_its_server_settings_can_be_chosen(directory: Path) -> None:
    settings = {"max_connections": "17", "application_name": 'it\'s "quoted" $HOME'}
    with embedded_postgres(directory, options=settings) as url, psycopg.connect(url) as connection:
        found = connection.execute("SELECT current_setting('max_connections'), reset_val FROM pg_settings "
                                   "WHERE name = 'application_name'").fetchone()  # fmt: skip
    assert found == tuple(settings.values())


def test_it_stops_although_a_session_is_still_open(directory: Path) -> None:
    with embedded_postgres(directory) as url:
        connection = psycopg.connect(url)
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()


def test_it_stops_after_an_error_which_comes_through(directory: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        with embedded_postgres(directory):
            raise ZeroDivisionError


def test_it_stops_when_its_start_is_interrupted(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        assert server_of(directory).is_running()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(psycopg, "connect", interrupted)
        with pytest.raises(KeyboardInterrupt):
            with embedded_postgres(directory):
                pass


def test_its_psql_works(directory: Path) -> None:
    with embedded_postgres(directory) as url:
        command = [str(psql_path()), "-X", "-A", "-t", "-c", "SELECT number FROM things", url]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "1\n"


@pytest.mark.long
def test_what_an_interrupted_initdb_left_is_replaced(empty: Path) -> None:
    unfinished = empty / "data.unfinished"
    (unfinished / "base").mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    with embedded_postgres(empty, options=QUICK) as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert not unfinished.exists()
    assert (empty / "data" / "global" / "pg_control").exists()


@pytest.mark.parametrize("below", ["", "data", "a/b"])
def test_a_path_that_is_a_file_is_an_error_that_says_so(tmp_path: Path, below: str) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(
        DatabaseUnavailable, match=r"in .*/file.* did not start: .*(File exists|Not a directory).* set DATABASE_URL"
    ):
        with embedded_postgres(path / below):
            pass


def test_data_of_another_version_is_an_error_with_the_words_of_the_server(directory: Path) -> None:
    version = directory / "data" / "PG_VERSION"
    current = version.read_text()
    version.write_text("9\n")
    with pytest.raises(DatabaseUnavailable, match=r"did not start: .*not compatible.* set DATABASE_URL"):
        with embedded_postgres(directory):
            pass
    version.write_text(current)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another user")
def test_root_opens_no_directory_above_the_data(empty: Path) -> None:
    (empty / "closed").mkdir(mode=0o700)
    with pytest.raises(DatabaseUnavailable, match="Permission denied"):
        with embedded_postgres(empty / "closed" / "postgres"):
            pass
    assert (empty / "closed").stat().st_mode & 0o777 == 0o700


def test_its_directory_is_told_by_the_system() -> None:
    assert default_directory().is_absolute()
    assert default_directory().parts[-2:] == ("voucher-sync", "postgres")


def test_no_value_reaches_the_server_s_log(directory: Path) -> None:
    log = directory / "data" / "server.log"
    before = len(log.read_text())
    with embedded_postgres(directory) as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE codes (value text UNIQUE)")
        for _ in range(2):
            with suppress(psycopg.errors.UniqueViolation):
                connection.execute("INSERT INTO codes VALUES ('SUMMER-2027')")
        connection.execute("DROP TABLE codes")
    told = log.read_text()[before:]
    assert "duplicate key" in told
    assert "SUMMER-2027" not in told
