"""Where a server may lie: at any path, reached by its user, and where nobody else can put something in its place."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from sync.core.errors import DatabaseUnavailable
from sync.postgres.embedded import embedded_postgres, psql_path, temporary_directory
from sync.postgres.embedded.directories import closed_to_others
from sync.postgres.urls import describe_address
from tests.postgres.embedded.helpers import AS_ROOT, QUICK, STRANGER, open_directory, skip_without

START = """
import sys
from pathlib import Path
from sync.postgres.embedded import embedded_postgres
from sync.core.errors import DatabaseUnavailable
try:
    with embedded_postgres(Path(sys.argv[1]), options={"fsync": "off"}):
        print("started")
except DatabaseUnavailable as error:
    print(error)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory below which a server could lie."""
    with open_directory() as path:
        yield path


@pytest.mark.long
def test_a_path_too_long_for_a_socket_or_full_of_odd_characters_works(place: Path) -> None:
    directory = place / "it's 100% ünusual" / 'Rooms, "Ltd"' / "$(touch here) `touch here` \\n ;" / ("x" * 100)
    with embedded_postgres(directory, options=QUICK) as url, psycopg.connect(url) as connection:
        sockets = Path(connection.info.host)
        assert len(os.fsencode(sockets)) < 100
        assert sockets.stat().st_mode & 0o777 == 0o700
        asked = [str(psql_path()), "-X", "-A", "-t", "-c", "SHOW data_directory", url]
        shown = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
        assert shown == f"{directory / 'data'}\n"
        assert "voucher_sync" in describe_address(url)
    assert not sockets.exists()
    assert not list(place.rglob("here"))


@pytest.mark.long
def test_a_path_that_is_no_utf_8_works(place: Path) -> None:
    with embedded_postgres(place / os.fsdecode(b"caf\xe9"), options=QUICK) as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_path_with_a_line_break_is_refused_before_anything_is_made(place: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="line break"):
        with embedded_postgres(place / "a\nb" / "c"):
            pass
    assert list(place.iterdir()) == []


@pytest.mark.long
@pytest.mark.parametrize("umask", [0o077, 0o000], ids=["077", "000"])
def test_the_umask_opens_nothing_and_closes_nothing(place: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with (
            embedded_postgres(place / "voucher-sync" / "postgres", options=QUICK) as url,
            psycopg.connect(url) as connection,
        ):
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        os.umask(before)
    made = [place / "voucher-sync", *(place / "voucher-sync").rglob("*")]
    assert [path for path in made if not path.is_symlink() and path.stat().st_mode & 0o022] == []
    assert (place / "voucher-sync/postgres/data").stat().st_mode & 0o777 == 0o700
    assert (place / "voucher-sync/postgres/data/server.log").stat().st_mode & 0o077 == 0


def refusal(directory: Path) -> str:
    """Why a server does not start in a directory; it has put nothing there."""
    before = sorted(directory.rglob("*"))
    with pytest.raises(DatabaseUnavailable) as caught:
        with embedded_postgres(directory):
            pass
    assert sorted(directory.rglob("*")) == before
    return str(caught.value)


@AS_ROOT
def test_a_directory_of_another_user_is_refused(place: Path) -> None:
    os.chown(place, STRANGER, STRANGER)
    assert f"{place} belongs to {STRANGER}, who could change what lies in it" in refusal(place)


@AS_ROOT
def test_a_directory_of_our_name_that_is_another_user_s_is_refused(place: Path) -> None:
    (place / "voucher-sync" / "postgres").mkdir(parents=True)
    os.chown(place / "voucher-sync", STRANGER, STRANGER)
    assert f"belongs to {STRANGER}" in refusal(place / "voucher-sync" / "postgres")


@AS_ROOT
def test_a_symbolic_link_that_another_user_made_is_refused(place: Path) -> None:
    (place / "real").mkdir()
    (place / "link").symlink_to(place / "real")
    os.chown(place / "link", STRANGER, STRANGER, follow_symlinks=False)
    assert f"{place / 'link'} is a symbolic link that {STRANGER} made" in refusal(place / "link")


def test_a_directory_that_everybody_may_change_is_refused(place: Path) -> None:
    (place / "open").mkdir()
    (place / "open").chmod(0o777)
    assert "every user may change" in refusal(place / "open")


@AS_ROOT
def test_data_of_another_user_are_refused_with_what_to_do(place: Path) -> None:
    (place / "data").mkdir(mode=0o700)
    os.chown(place / "data", STRANGER, STRANGER)
    told = refusal(place)
    assert f"{place / 'data'} belongs to {STRANGER}" in told
    assert "chown -R" in told


def test_data_that_are_a_symbolic_link_are_refused(place: Path) -> None:
    (place / "elsewhere").mkdir(mode=0o700)
    (place / "data").symlink_to(place / "elsewhere")
    assert "Not a directory" in refusal(place)


@AS_ROOT
def test_a_directory_above_that_is_closed_is_named(place: Path) -> None:
    (place / "closed").mkdir(mode=0o700)
    told = refusal_below(place / "closed")
    assert f"cannot reach {place / 'closed/postgres'}, since {place / 'closed'} is closed to others" in told
    assert (place / "closed").stat().st_mode & 0o777 == 0o700


def refusal_below(closed: Path) -> str:
    """Why a server does not start below a closed directory."""
    with pytest.raises(DatabaseUnavailable) as caught:
        with embedded_postgres(closed / "postgres"):
            pass
    return str(caught.value)


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Path]:
    """Where a demo would lie, whose TMPDIR is this one."""

    def made(path: Path) -> Path:
        monkeypatch.setenv("TMPDIR", str(path))
        monkeypatch.setattr(tempfile, "tempdir", None)  # it is asked for once
        with temporary_directory("voucher-sync-") as directory:
            assert directory.stat().st_mode & 0o077 == 0
        assert not directory.exists()
        return directory.parent

    return made


def test_a_temporary_directory_lies_where_it_is_told_to(place: Path, temporary: Callable[[Path], Path]) -> None:
    (place / "tmp").mkdir(mode=0o711)
    assert temporary(place / "tmp") == place / "tmp"


@pytest.mark.parametrize("broken", ["missing", "a file"])
def test_a_broken_tmpdir_is_passed_over(place: Path, temporary: Callable[[Path], Path], broken: str) -> None:
    if broken == "a file":
        (place / "tmp").touch()
    assert temporary(place / "tmp").is_dir()


@AS_ROOT
def test_a_tmpdir_that_the_servers_user_does_not_reach_is_passed_over(
    place: Path, temporary: Callable[[Path], Path]
) -> None:
    (place / "closed" / "tmp").mkdir(parents=True)
    (place / "closed").chmod(0o700)
    assert closed_to_others(temporary(place / "closed" / "tmp")) is None


def in_a_machine_with(mount: str, directory: Path) -> str:
    """What a process says that starts a server where something else is mounted."""
    skip_without("unshare", "mount")
    command = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        f'{mount} && exec "$@"',
        "sh",
        sys.executable,
        "-c",
        START,
        str(directory),
    ]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode != 0 and "mount" in ended.stderr:
        pytest.skip(f"this root may not mount: {ended.stderr}")
    return ended.stdout


@pytest.mark.long
@AS_ROOT
def test_a_tiny_shared_memory_is_enough(place: Path) -> None:
    assert in_a_machine_with("mount -t tmpfs -o size=64k tmpfs /dev/shm", place) == "started\n"


@pytest.mark.long
@AS_ROOT
def test_a_full_disk_is_told_of(place: Path) -> None:
    said = in_a_machine_with(f"mount -t tmpfs -o size=4M,mode=711 tmpfs {place}", place)
    assert "No space left on device" in said


@pytest.mark.long
@AS_ROOT
def test_a_file_system_that_can_only_be_read_is_told_of(place: Path) -> None:
    said = in_a_machine_with(f"mount -t tmpfs -o ro,mode=711 tmpfs {place}", place / "voucher-sync")
    assert f"{place}/voucher-sync cannot be made (Read-only file system)" in said


@pytest.mark.long
def test_a_bare_process_is_enough(place: Path) -> None:
    bare = "umask 077; ulimit -n 64; trap '' INT HUP; exec env -i \"$@\" <&-"
    command = ["sh", "-c", bare, "sh", sys.executable, "-c", START, str(place)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "started\n"
