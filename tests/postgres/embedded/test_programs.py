"""What the server runs from a place that its user cannot reach, as a checkout below root's home: a copy that works."""

import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from sync.core.errors import DatabaseUnavailable
from sync.postgres.embedded import embedded_postgres
from sync.postgres.embedded.account import Account, server_account
from sync.postgres.embedded.programs import USED, programs_for
from tests.postgres.embedded.helpers import AS_ROOT, PACKAGE, QUICK, copy_wheel, open_directory, skip_without

COPY_AND_DIE = """
import os, shutil, sys
from pathlib import Path
from sync.postgres.embedded.account import server_account
from sync.postgres.embedded.programs import programs_for
copied, copy = 0, shutil.copy2
def dying(*arguments, **options):
    global copied
    copied += 1
    if copied > 10:
        os.kill(os.getpid(), 9)
    return copy(*arguments, **options)
shutil.copytree.__defaults__ = tuple(dying if one is copy else one for one in shutil.copytree.__defaults__)
programs_for(server_account(Path("/nowhere")), Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def closed_site() -> Iterator[Path]:
    """A `site-packages` with the wheel's programs, installed under a umask of 077 in a directory closed to others."""
    with open_directory() as above:
        above.chmod(0o700)
        copy_wheel(above / "site")
        for path in (above / "site").rglob("*"):
            path.chmod(path.stat().st_mode & 0o700)
        yield above / "site"


@pytest.fixture
def closed(closed_site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, as where this process finds the wheel."""
    monkeypatch.syspath_prepend(str(closed_site))
    return closed_site


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where a server could lie."""
    with open_directory() as path:
        yield path


@pytest.fixture
def account(directory: Path) -> Account:
    """Who the server would run as."""
    return server_account(directory / "data")


def package() -> Path:
    """Where the wheel is installed."""
    spec = find_spec(PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def can_run(programs: Path, account: Account) -> bool:
    """Whether the account can run every program that a server needs."""
    try:
        for name in USED:
            account.run(programs / name, "--version")
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def names(directory: Path) -> list[str]:
    """What lies in a directory."""
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.long
@AS_ROOT
def test_a_server_runs_from_a_copy_whatever_the_umask(closed: Path, directory: Path) -> None:
    umask = os.umask(0o077)
    try:
        with embedded_postgres(directory, options=QUICK) as url, psycopg.connect(url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        os.umask(umask)
    assert closed.parent.stat().st_mode & 0o777 == 0o700
    (copy,) = directory.glob("programs-*")
    writable = [path for path in copy.rglob("*") if path.stat().st_uid != 0 or path.stat().st_mode & 0o022]
    assert writable == []


@AS_ROOT
def test_programs_in_reach_are_run_where_they_are(directory: Path, account: Account) -> None:
    assert can_run(programs_for(account, directory), account)
    is_open = all(one.stat().st_mode & stat.S_IXOTH for one in package().parents)
    assert (names(directory) == []) is is_open


@pytest.mark.long
@AS_ROOT
@pytest.mark.usefixtures("closed")
def test_a_copy_is_made_once(directory: Path, account: Account) -> None:
    programs = programs_for(account, directory)
    made = programs.stat().st_ino
    assert can_run(programs, account)
    assert programs_for(account, directory) == programs
    assert programs.stat().st_ino == made


@pytest.mark.long
@AS_ROOT
@pytest.mark.usefixtures("closed")
@pytest.mark.parametrize("broken", ["its libraries", "a program", "a mode"])
def test_a_copy_that_cannot_be_run_is_replaced(directory: Path, account: Account, broken: str) -> None:
    programs = programs_for(account, directory)
    assert programs.is_relative_to(directory)
    if broken == "its libraries":
        shutil.rmtree(programs.parents[2] / f"{PACKAGE}.libs")
    elif broken == "a program":
        (programs / "initdb").write_bytes(b"")
    else:
        programs.chmod(0o700)
    assert not can_run(programs, account)
    assert can_run(programs_for(account, directory), account)


@pytest.mark.long
@AS_ROOT
@pytest.mark.usefixtures("closed")
def test_copies_of_other_releases_go(directory: Path, account: Account) -> None:
    for old in ("pginstall18/bin", "copy-x1y2z3/bin", "programs-0.5.0-1/bin", "programs.unfinished/bin", "data/base"):
        (directory / old).mkdir(parents=True)
    programs = programs_for(account, directory)
    assert can_run(programs, account)
    assert names(directory) == ["data", programs.relative_to(directory).parts[0]]


@pytest.mark.long
@AS_ROOT
def test_a_copy_goes_when_it_is_needed_no_more(closed: Path, directory: Path, account: Account) -> None:
    copy = programs_for(account, directory)
    closed.parent.chmod(0o711)
    closed.chmod(0o711)
    shutil.copytree(copy.parents[2], closed / "open", symlinks=True)
    sys.path.insert(0, str(closed / "open"))
    try:
        (closed / "open" / PACKAGE / "__init__.py").touch()
        assert programs_for(account, directory).is_relative_to(closed / "open")
    finally:
        sys.path.remove(str(closed / "open"))
        closed.parent.chmod(0o700)
    assert names(directory) == []


@pytest.mark.long
@AS_ROOT
def test_a_copy_that_a_kill_left_half_made_is_made_again(closed: Path, directory: Path, account: Account) -> None:
    environment = {**os.environ, "PYTHONPATH": str(closed)}
    ended = subprocess.run([sys.executable, "-c", COPY_AND_DIE, str(directory)], check=False, env=environment)
    assert (ended.returncode, names(directory)) == (-9, ["programs.unfinished"])
    programs = programs_for(account, directory)
    assert can_run(programs, account)
    assert names(directory) == [programs.relative_to(directory).parts[0]]


@pytest.mark.long
@AS_ROOT
@pytest.mark.usefixtures("closed")
def test_starts_at_once_make_one_copy_and_one_server(directory: Path) -> None:
    urls, all_are_in = [], threading.Barrier(3)

    def start() -> None:
        with embedded_postgres(directory, options=QUICK) as url:
            urls.append(url)
            all_are_in.wait(60)

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(urls) == 3
    assert len(set(urls)) == 1
    assert len(list(directory.glob("programs*"))) == 1


@contextmanager
def mounted(directory: Path, options: str) -> Iterator[None]:
    """A file system of its own in a directory."""
    skip_without("mount", "umount")
    mount = ["mount", "-t", "tmpfs", "-o", f"mode=0711,{options}", "tmpfs", str(directory)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("this root may not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


@AS_ROOT
@pytest.mark.usefixtures("closed")
@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (
            "noexec",
            r"voucher-sync can run neither .* nor a copy in .* \(Permission denied\): install voucher-sync where",
        ),
        ("size=4M", r"the server's programs cannot be copied to \S+: \S+ \S+ No space left on device"),
    ],
)
def test_a_copy_that_cannot_be_made_is_told_of(directory: Path, options: str, cause: str) -> None:
    with mounted(directory, options), pytest.raises(DatabaseUnavailable, match=cause):
        with embedded_postgres(directory):
            pass


@pytest.mark.long
def test_a_path_that_a_shell_would_read_is_none_for_programs(directory: Path, account: Account) -> None:
    odd = directory / 'a "$(touch x)" `b`'
    odd.mkdir()
    for name in (PACKAGE, f"{PACKAGE}.libs"):
        (odd / name).symlink_to(package().with_name(name))
    (directory / "server").mkdir(mode=0o711)
    sys.path.insert(0, str(odd))
    try:
        programs = programs_for(account, directory / "server")
    finally:
        sys.path.remove(str(odd))
    assert programs.is_relative_to(directory / "server")
    assert can_run(programs, account)
