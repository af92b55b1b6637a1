"""Makes .venv, the environment of a checkout, of what the locks list and nothing else: `environment.py demo|tests`.
With `peers` it makes .venv-peers, of what benchmarks/peers/ needs.

It does nothing where .venv is as the locks say already. Whatever may have made it wrong (a Ctrl-C in the middle, a
checkout that was moved or copied, a Python that is gone, another lock) shows in what it notes as the last step, and
then .venv is made anew. Only the standard library is there to work with.
"""

from __future__ import annotations

import ast
import errno
import fcntl
import hashlib
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / (".venv-peers" if sys.argv[1:] == ["peers"] else ".venv")
"""Peers need other releases of our own libraries, and many of theirs, which neither runtime nor tests are to carry."""
PYTHON = VENV / "bin" / "python"
NOTE = VENV / "made-of"
BUILD_LOCK = "deploy/build.lock"
"""pip and the build tools. First, so that all else is installed by the same pip, whatever pip Python brings."""
LOCKS = {"demo": "deploy/demo.lock", "tests": "tests/requirements.lock", "peers": "benchmarks/peers/requirements.lock"}
"""That of the tests holds all that the demo's does, which is the runtime and its extra: one environment serves both."""
WHAT = {
    "demo": "voucher-sync",
    "tests": "voucher-sync and its test tools",
    "peers": "what voucher-sync is measured beside",
}
WHERE_FROM = (
    "index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "cert", "client-cert", "proxy",
    "timeout", "default-timeout", "retries", "cache-dir", "no-cache-dir", "keyring-provider",
)  # fmt: skip
"""What the user's pip may be told by variables and files: where packages come from. Not which, how, or where to."""


def main(kind: str) -> str | None:
    """Make .venv for `kind`. Returns what went wrong, and what to do about it."""
    if os.path.expanduser("~") == "~":  # noqa: PTH111 - Path.home() raises
        os.environ |= {"HOME": str(VENV), "PIP_NO_CACHE_DIR": "1"}  # without any home pip does not run
    try:
        # Two commands at once would install into each other; the kernel opens the lock however its holder ends.
        alone = os.open(ROOT, os.O_RDONLY)
        with suppress(OSError):  # no locks on this file system
            fcntl.flock(alone, fcntl.LOCK_EX)
        if _note() not in (_wanted(kind), _wanted("tests")) or not _works():
            _make(kind)
    except OSError as error:
        advice = "; make a copy of the checkout that is yours (git clone), and run it there"
        is_anothers = error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}
        return f"cannot write {error.filename}: {error.strerror}{advice if is_anothers else ''}"
    except subprocess.CalledProcessError as error:
        return f"{error.stdout or ''}{VENV} cannot be made: the cause stands above; `make` begins anew"
    except KeyboardInterrupt:
        return "interrupted; `make` begins anew"
    return None


def _make(kind: str) -> None:
    sys.stderr.write(f"Installing {WHAT[kind]} into {VENV.name} (once) ...\n")
    note = _note() or ""
    if note.startswith(_locks("tests")):
        kind = "tests"  # what is there stays: only pyproject.toml is another
    may_be_added_to = note.startswith((_locks("demo"), _locks(kind))) and _works()
    NOTE.unlink(missing_ok=True)
    if not may_be_added_to:
        _new_environment()
        _pip(*_nothing_but(BUILD_LOCK))
    _pip(*_nothing_but(LOCKS[kind]))
    if kind != "peers":
        _install_ourselves()
    NOTE.write_text(_wanted(kind), encoding="utf-8", errors="surrogateescape")


def _install_ourselves() -> None:
    _pip("--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    # In the C locale no Python before 3.13 starts that finds a letter beyond ASCII here, as our path may have.
    (path,) = VENV.glob("lib/python*/site-packages/_voucher_sync.pth")
    path.write_text("../../../..\n", encoding="ascii")


def _new_environment() -> None:
    VENV.mkdir(exist_ok=True)
    try:
        command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
        subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except subprocess.CalledProcessError as error:
        error.stdout += "python3 has no working venv module: install it (Debian: python3-venv)\n"
        raise


def _nothing_but(lock: str) -> tuple[str, ...]:
    # Resolving, pip would look at what the registry has newer, and building, at whatever the build asks for.
    return "--no-deps", "--require-hashes", "--only-binary=:all:", "--requirement", str(ROOT / lock)


def _pip(*arguments: str) -> None:
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, env=_environment())


def _environment() -> dict[str, str]:
    """The process's, where pip is told where packages come from and nothing else."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment |= _where_from(environment) | {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INPUT": "1"}
    return environment


def _where_from(environment: dict[str, str]) -> dict[str, str]:
    command = [str(PYTHON), "-m", "pip", "config", "list"]
    told = {"PIP_QUIET": "0", "PIP_VERBOSE": "0", "PIP_CONFIG_FILE": os.environ.get("PIP_CONFIG_FILE", "")}
    listed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment | told).stdout
    configured = dict(line.partition("=")[::2] for line in listed.splitlines())
    found: dict[str, str] = {}
    for name in WHERE_FROM:
        variable = "PIP_" + name.upper().replace("-", "_")
        for section in ("global.", "install."):  # the later one counts, as for pip itself, and a variable most
            if section + name in configured:
                found[variable] = ast.literal_eval(configured[section + name])
        if os.environ.get(variable):
            found[variable] = os.environ[variable]
    return found


def _wanted(kind: str) -> str:
    """What .venv is made of, as it is noted in it."""
    return f"{_locks(kind)}{_hash('pyproject.toml')}\n"


def _locks(kind: str) -> str:
    return f"{ROOT}\n{_hash(BUILD_LOCK)}\n{_hash(LOCKS[kind])}\n"


def _hash(name: str) -> str:
    return f"{name} {hashlib.sha256((ROOT / name).read_bytes()).hexdigest()}"


def _note() -> str | None:
    try:
        return NOTE.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return None


def _works() -> bool:
    """Whether its Python runs, and is the version that its packages lie under."""
    try:
        subprocess.run([str(PYTHON), "-c", "import pip"], check=True, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in LOCKS:
        sys.stderr.write(f"usage: environment.py {'|'.join(LOCKS)}\n")
        sys.exit(2)
    sys.exit(main(sys.argv[1]))
