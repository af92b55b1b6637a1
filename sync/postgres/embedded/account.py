"""Who the embedded server runs as: whoever starts it, but never root, since PostgreSQL refuses to."""

import os
import pwd
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNPRIVILEGED_USER = "voucher-sync"
"""Root's server runs as this user, which is made where it can be."""
NOBODY = "nobody"
"""And as this one where no user can be made, as in a container without `useradd` or with a read-only /etc."""
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}
"""All that the server gets of ours: the daemon's own holds tokens, and variables that libraries read."""
MAKE_TRIES = 5


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int

    def run(self, *command: str | Path, cwd: Path = Path("/"), **variables: str) -> None:
        """Run a program as this user, in a clean environment. `CalledProcessError` with what it said, if it fails."""
        is_other = self.uid != os.geteuid()
        switch: dict[str, Any] = {"user": self.uid, "group": self.gid, "extra_groups": []} if is_other else {}
        subprocess.run(
            command, check=True, capture_output=True, encoding="utf-8", errors="replace", stdin=subprocess.DEVNULL,
            cwd=cwd, env=ENVIRONMENT | variables, start_new_session=True, umask=0o077, **switch,
        )  # fmt: skip


def is_root() -> bool:
    """Whether the server has to run as somebody else."""
    return os.geteuid() == 0


def server_account(data: Path) -> Account:
    """Who the server over `data` runs as. `LookupError` or `PermissionError` where there is nobody."""
    if not is_root():
        return _own()
    account = _owner(data) or _named(UNPRIVILEGED_USER) or _made() or _named(NOBODY)
    if account is None:
        raise LookupError(
            f"PostgreSQL refuses to run as root, and there is no user {UNPRIVILEGED_USER} and no {NOBODY}: "
            f"make the first (`useradd --system {UNPRIVILEGED_USER}`), or run this as a user who is not root"
        )
    _become(account)
    return account


def user_name(uid: int) -> str:
    """A user's name, or the number of one that has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _own() -> Account:
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        raise LookupError(
            f"this runs as user id {uid}, which has no name here, and PostgreSQL refuses that: "
            f"add a line for it to /etc/passwd, or run this as another user"
        ) from None
    return Account(name, uid, os.getegid())


def _named(name: str) -> Account | None:
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(found.pw_name, found.pw_uid, found.pw_gid) if found.pw_uid != 0 else None


def _owner(data: Path) -> Account | None:
    # A user may have been made since the data was, under the other one.
    with suppress(FileNotFoundError):
        uid = data.lstat().st_uid
        return next((one for name in (UNPRIVILEGED_USER, NOBODY) if (one := _named(name)) and one.uid == uid), None)
    return None


def _made() -> Account | None:
    options = ("--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent")
    command = ["useradd", *options, "--shell", "/usr/sbin/nologin", UNPRIVILEGED_USER]
    for _ in range(MAKE_TRIES):
        try:
            subprocess.run(command, check=False, capture_output=True, stdin=subprocess.DEVNULL)
        except OSError:
            return None  # no such program
        if account := _named(UNPRIVILEGED_USER):
            return account
        time.sleep(0.1)  # somebody else may hold the lock of /etc/passwd
    return None


def _become(account: Account) -> None:
    try:
        account.run("/bin/sh", "-c", ":")  # any program would do; initdb needs this one
    except FileNotFoundError:
        raise
    except OSError as error:
        raise PermissionError(
            f"root may not become the user {account.name} here ({error.strerror}), as in a container without the "
            f"capabilities SETUID and SETGID or with a single user id, and PostgreSQL refuses to run as root: "
            f"run this as a user who is not root"
        ) from error
