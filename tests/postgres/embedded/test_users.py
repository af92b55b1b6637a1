"""The embedded server is shared, outlives whoever is killed, and stops with its last user."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from sync.postgres.embedded import embedded_postgres
from tests.postgres.embedded.helpers import PATIENCE_S, address, is_up, kill, server_of, things, user

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


@pytest.mark.long
def test_two_processes_share_it_and_the_last_one_out_stops_it(directory: Path) -> None:
    with user(directory) as other:
        url = address(other)
        server = server_of(directory)
        with embedded_postgres(directory) as own:
            assert own == url
            assert server_of(directory) == server
        assert things(url) == [1]
    assert not is_up(directory)


@pytest.mark.long
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


@pytest.mark.long
def test_processes_that_start_at_once_make_one_server(empty: Path) -> None:
    with user(empty) as one, user(empty) as two, user(empty) as three:
        assert len({address(process) for process in (one, two, three)}) == 1
        assert is_up(empty)


@pytest.mark.long
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


@pytest.mark.long
def test_one_of_two_users_is_killed_and_the_other_stops_it(directory: Path) -> None:
    with embedded_postgres(directory) as url:
        with user(directory) as killed:
            address(killed)
            killed.kill()
        assert things(url) == [1]
    assert not is_up(directory)


@pytest.mark.long
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


@pytest.mark.long
def test_a_pid_that_is_another_programs_by_now_does_not_stop_the_start(directory: Path) -> None:
    with another_program(directory, "postmaster.pid"), embedded_postgres(directory) as url:
        assert things(url) == [1]


@pytest.mark.long
def test_a_pid_in_the_lock_of_the_socket_does_not_stop_the_start_either(directory: Path) -> None:
    with another_program(directory, "postmaster.pid", ".s.PGSQL.5432.lock"), embedded_postgres(directory) as url:
        assert things(url) == [1]


@pytest.mark.long
def test_leaving_a_server_that_died_is_quiet_and_the_next_user_can_start_it(directory: Path) -> None:
    run = [sys.executable, "-c", LEAVE_A_DEAD_SERVER, str(directory)]
    ended = subprocess.run(run, check=False, capture_output=True, text=True, timeout=PATIENCE_S / 4)
    assert ended.stderr == ""
    assert ended.stdout == "died\nleft\nleft again\n"
