"""Who a server runs as on a machine where nothing was prepared, and what is said where there is nobody."""

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync.postgres.embedded import UNPRIVILEGED_USER
from sync.postgres.embedded.account import server_account
from tests.postgres.embedded.helpers import AS_ROOT, STRANGER, open_directory, run_as, skip_without

WHO = """
from pathlib import Path
from sync.postgres.embedded.account import server_account
try:
    print(server_account(Path("/nowhere")).name)
except (LookupError, PermissionError) as error:
    print(error)
"""
START = """
try:
    with embedded_postgres(directory):
        print("started")
except DatabaseUnavailable as error:
    print(error)
"""
PLACE = """
from sync.postgres.embedded import default_directory
os.environ.pop("HOME", None)
os.environ.pop("XDG_DATA_HOME", None)
try:
    print(default_directory())
except DatabaseUnavailable as error:
    print(error)
"""
WITHOUT_CAPABILITIES = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
pytestmark = AS_ROOT


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where a server could lie."""
    with open_directory() as path:
        yield path


def said_with_users(directory: Path, *names: str, path: str) -> str:
    """What a process says where these are all the users, /etc is read-only, and programs come from `path`."""
    skip_without("unshare", "mount")
    users = directory / "passwd"
    lines = [":".join(map(str, pwd.getpwnam(name))) for name in ("root", *names)]
    users.write_text("\n".join(lines) + "\n")
    (directory / "nsswitch").write_text("passwd: files\ngroup: files\n")  # systemd would name a nobody of its own
    mount = " && ".join(
        f"mount --bind {directory / name} {path} && mount -o remount,bind,ro {path}"
        for name, path in (("passwd", "/etc/passwd"), ("nsswitch", "/etc/nsswitch.conf"))
    )
    command = ["unshare", "--mount", "sh", "-c", f'{mount} && PATH={path} exec "$@"', "sh", sys.executable, "-c", WHO]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode != 0 and ("unshare" in ended.stderr or "mount" in ended.stderr):
        pytest.skip(f"this root may not mount: {ended.stderr}")
    return ended.stdout


def test_its_user_can_not_log_in(directory: Path) -> None:
    account = server_account(directory / "data")
    assert account.name == UNPRIVILEGED_USER
    assert account.uid == pwd.getpwnam(UNPRIVILEGED_USER).pw_uid != 0
    assert pwd.getpwnam(UNPRIVILEGED_USER).pw_shell.endswith("nologin")


def test_the_owner_of_data_that_are_there_goes_on_with_them(directory: Path) -> None:
    (directory / "data").mkdir()
    nobody = pwd.getpwnam("nobody")
    os.chown(directory / "data", nobody.pw_uid, nobody.pw_gid)
    assert server_account(directory / "data").name == "nobody"


@pytest.mark.long
@pytest.mark.parametrize("path", ["/nowhere", os.defpath], ids=["without useradd", "with a read-only /etc"])
def test_where_no_user_can_be_made_it_is_nobody(directory: Path, path: str) -> None:
    assert said_with_users(directory, "nobody", path=path) == "nobody\n"


@pytest.mark.long
def test_without_even_that_it_says_what_to_do(directory: Path) -> None:
    assert "make the first (`useradd --system voucher-sync`)" in said_with_users(directory, path="/nowhere")


@pytest.mark.long
def test_a_root_that_may_not_become_another_user_is_told_so(directory: Path) -> None:
    skip_without("setpriv")
    command = [*WITHOUT_CAPABILITIES, sys.executable, "-c", WHO]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=directory).stdout
    assert "root may not become the user voucher-sync here (Operation not permitted)" in said
    assert "run this as a user who is not root" in said


@pytest.mark.long
def test_a_user_without_a_name_is_told_so(directory: Path) -> None:
    os.chown(directory, STRANGER, STRANGER)
    assert f"this runs as user id {STRANGER}, which has no name here" in run_as(STRANGER, START, directory)
    assert list(directory.iterdir()) == []


@pytest.mark.long
def test_a_home_that_cannot_be_written_to_is_named_with_the_variable_that_moves_it(directory: Path) -> None:
    said = run_as(65534, START, directory / "home" / "voucher-sync")
    assert f"{directory / 'home'} cannot be made (Permission denied); XDG_DATA_HOME names another place" in said


@pytest.mark.long
def test_a_user_without_a_home_is_told_which_variables_give_the_data_a_place(directory: Path) -> None:
    said = run_as(STRANGER, PLACE, directory)
    assert "this user has no home: set DATABASE_URL, or HOME or XDG_DATA_HOME to an absolute path" in said
