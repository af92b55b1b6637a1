"""The embedded server starts, is shared, outlives whoever is killed, and stops with its last user."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
import pytest

from sync.core.errors import DatabaseUnavailable
from sync.postgres.embedded import default_directory, embedded_postgres, psql_path
from tests.postgres.embedded.helpers import QUICK, open_directory

USER = """
import sys
from pathlib import Path
from sync.postgres.embedded import embedded_postgres
with embedded_postgres(Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.readline()
"""
LEAVE_A_DEAD_SERVER = """
import sys
from pathlib import Path
import psutil
from sync.postgres.embedded import embedded_postgres
directory = Path(sys.argv[1])
with embedded_postgres(directory):
    server = psutil.Process(int((directory / "data" / "postmaster.pid").read_text().partition("\\n")[0]))
    family = [server, *server.children()]
    server.kill()
    psutil.wait_procs(family)
    print("died")
print("left")
with embedded_postgres(directory):
    pass
print("left again")
"""
PATIENCE_S = 60


@pytest.fixture(scope="module")
def initialised() -> Iterator[Path]:
    """A directory whose server was started once and stopped again, with a row in its database."""
    with open_directory() as path:
        with embedded_postgres(path, options=QUICK) as url, psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE things AS SELECT 1 AS number")
            connection.execute("ALTER SYSTEM SET fsync = off")
        yield path


@pytest.fixture
def directory(initialised: Path) -> Iterator[Path]:
    """The same, where nobody is left at the end."""
    yield initialised
    assert not is_up(initialised)


@pytest.fixture
def empty() -> Iterator[Path]:
    """A directory without a database."""
    with open_directory() as path:
        yield path
        assert not is_up(path)


def is_up(directory: Path) -> bool:
    """Whether somebody listens on the socket in `directory`."""
    try:
        psycopg.connect(f"postgresql://postgres@/postgres?host={quote(str(directory / 'data'), safe='/')}").close()
    except psycopg.OperationalError:
        return False
    return True


def server_of(directory: Path) -> psutil.Process:
    """The running server."""
    return psutil.Process(int((directory / "data" / "postmaster.pid").read_text().partition("\n")[0]))


def things(url: str) -> list[int]:
    """The numbers in the row that was stored before."""
    with psycopg.connect(url) as connection:
        return [number for (number,) in connection.execute("SELECT number FROM things")]


def kill(process: psutil.Process) -> None:
    """Kills a server with all its processes, and waits until none of them is left, not even as a zombie."""
    family = [process, *process.children(recursive=True)]
    process.kill()
    _, alive = psutil.wait_procs(family, timeout=PATIENCE_S)
    assert alive == []


@contextmanager
def user(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is about to use the server, until its stdin is closed; it must end well unless it was killed."""
    command = [sys.executable, "-c", USER, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode in {0, -9}


def address(process: subprocess.Popen[str]) -> str:
    """The address that a process was given, once it uses the server."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_it_starts_serves_and_stops_and_keeps_what_it_holds(directory: Path) -> None:
    assert not is_up(directory)
    with embedded_postgres(directory) as url:
        assert things(url) == [1]
        server = server_of(directory)
    assert not is_up(directory)
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
    assert not (directory / "data" / "postmaster.pid").exists()


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


def test_two_processes_share_it_and_the_last_one_out_stops_it(directory: Path) -> None:
    with user(directory) as other:
        url = address(other)
        server = server_of(directory)
        with embedded_postgres(directory) as own:
            assert own == url
            assert server_of(directory) == server
        assert things(url) == [1]
    assert not is_up(directory)


def test_who_started_it_may_leave_first(directory: Path) -> None:
    with embedded_postgres(directory), user(directory) as other:
        url = address(other)
    assert not is_up(directory)

    with user(directory) as first:
        assert address(first) == url
        with user(directory) as second:
            assert address(second) == url
            first.communicate(timeout=PATIENCE_S)
            assert things(url) == [1]
    assert not is_up(directory)


def test_processes_that_start_at_once_make_one_server(empty: Path) -> None:
    with user(empty) as one, user(empty) as two, user(empty) as three:
        assert len({address(process) for process in (one, two, three)}) == 1
        assert is_up(empty)


def test_after_its_user_was_killed_the_next_one_shares_it_and_stops_it(directory: Path) -> None:
    with user(directory) as killed:
        address(killed)
        server = server_of(directory)
        killed.kill()
        killed.wait(PATIENCE_S)
        assert is_up(directory)
        with embedded_postgres(directory) as url:
            assert server_of(directory) == server
            assert things(url) == [1]
        assert not is_up(directory)


def test_one_of_two_users_is_killed_and_the_other_stops_it(directory: Path) -> None:
    with embedded_postgres(directory) as url:
        with user(directory) as killed:
            address(killed)
            killed.kill()
        assert things(url) == [1]
    assert not is_up(directory)


def test_a_server_that_was_killed_starts_again_with_all_that_was_committed(directory: Path) -> None:
    with user(directory) as killed:
        with psycopg.connect(address(killed), autocommit=True) as connection:
            connection.execute("INSERT INTO things VALUES (2)")
        killed.kill()
        kill(server_of(directory))
    assert (directory / "data" / "postmaster.pid").exists()
    with embedded_postgres(directory) as url:
        assert things(url) == [1, 2]
        with psycopg.connect(url) as connection:
            connection.execute("DELETE FROM things WHERE number = 2")


@contextmanager
def another_program(directory: Path, *locks: str) -> Iterator[None]:
    """The server was killed, and the process id in these lock files is now another program's of the same user."""
    with user(directory) as killed:
        address(killed)
        killed.kill()
        server = server_of(directory)
        kill(server)
    owner = (directory / "data").stat().st_uid
    paths = [directory / "data" / name for name in locks]
    with subprocess.Popen(["/bin/sh", "-c", "read line"], stdin=subprocess.PIPE, user=owner) as other:
        for path in paths:
            path.write_text(path.read_text().replace(str(server.pid), str(other.pid), 1))
        try:
            yield
        finally:
            other.kill()
            for path in paths:
                path.unlink(missing_ok=True)


def test_a_pid_that_is_another_programs_by_now_does_not_stop_the_start(directory: Path) -> None:
    with another_program(directory, "postmaster.pid"), embedded_postgres(directory) as url:
        assert things(url) == [1]


def test_a_pid_in_the_lock_of_the_socket_does_not_stop_the_start_either(directory: Path) -> None:
    with another_program(directory, "postmaster.pid", ".s.PGSQL.5432.lock"), embedded_postgres(directory) as url:
        assert things(url) == [1]


def test_leaving_a_server_that_died_is_quiet_and_the_next_user_can_start_it(directory: Path) -> None:
    run = [sys.executable, "-c", LEAVE_A_DEAD_SERVER, str(directory)]
    ended = subprocess.run(run, check=False, capture_output=True, text=True, timeout=PATIENCE_S / 4)
    assert ended.stderr == ""
    assert ended.stdout == "died\nleft\nleft again\n"


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
