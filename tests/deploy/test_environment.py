"""`make` and environment.py, on a checkout that is so small that it can be installed again and again."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.modes import open_to_all

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.long
NAMELESS = 54321

BACKEND = """
import zipfile

def build_editable(directory, config_settings=None, metadata_directory=None):
    name = "voucher_sync-1-py3-none-any.whl"
    with zipfile.ZipFile(f"{directory}/{name}", "w") as wheel:
        wheel.writestr("_voucher_sync.pth", __file__.rpartition("/")[0])
        metadata = "Metadata-Version: 2.1\\nName: voucher-sync\\nVersion: 1\\n"
        wheel.writestr("voucher_sync-1.dist-info/METADATA", metadata)
        wheel.writestr("voucher_sync-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr("voucher_sync-1.dist-info/RECORD", "")
    return name
"""
PROJECT = """
[build-system]
requires = ["a-newer-backend-that-nobody-may-look-for"]
build-backend = "backend"
backend-path = ["."]
[project]
name = "voucher-sync"
version = "1"
dependencies = ["mews-client[fast]>=1"]
"""


@dataclass
class Checkout:
    """Something that has our Makefile, environment.py and three locks, and the registry that its pip is set up for."""

    path: Path
    registry: Path
    configuration: Path

    def release(self, name: str, version: str) -> str:
        """Puts a release into the registry. Returns its line for a lock."""
        wheel = self.registry / f"{name}-{version}-py3-none-any.whl"
        code = (
            "import sys; sys.path.insert(0, sys.argv[1]); import newer_releases as new; from pathlib import Path; "
            "new.write_wheel(Path(sys.argv[2]), *sys.argv[3:])"
        )
        subprocess.run([sys.executable, "-c", code, ROOT / ".ci", self.registry, name, version], check=True)
        return f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"

    def lock(self, name: str, *lines: str) -> None:
        (self.path / name).parent.mkdir(exist_ok=True, parents=True)
        (self.path / name).write_text("".join(lines))

    def make(self, target: str = "installed-demo", **environment: str) -> subprocess.CompletedProcess[str]:
        shell = {"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": str(self.configuration), **environment}
        return subprocess.run(
            ["make", target, f"PYTHON={sys.executable}"],
            cwd=self.path, env=shell, check=False, capture_output=True, text=True, umask=0o077,
        )  # fmt: skip

    def installed(self) -> dict[str, str]:
        """What can be seen from another directory, in the C locale."""
        code = "import importlib.metadata as m; import sync\nfor d in m.distributions(): print(d.name, d.version)"
        done = subprocess.run(
            [self.path / ".venv/bin/python", "-c", code],
            cwd="/", env={"LC_ALL": "C"}, check=True, capture_output=True, text=True,
        )  # fmt: skip
        return dict(line.split() for line in done.stdout.splitlines() if not line.startswith(("pip ", "setuptools ")))


@pytest.fixture(scope="module")
def checkout() -> Iterator[Checkout]:
    with TemporaryDirectory(dir="/var/tmp") as name:
        directory = Path(name)
        made = Checkout(directory / "gäste haus", directory / "registry", directory / "pip.conf")
        made.registry.mkdir()
        made.configuration.write_text(
            f"[global]\nno-index = true\nno-binary = :all:\n[install]\nuser = true\nfind-links = {made.registry}\n"
        )
        (made.path / ".ci").mkdir(parents=True)
        for file in ("Makefile", ".ci/environment.py"):
            shutil.copy(ROOT / file, made.path / file)
        (made.path / "backend.py").write_text(BACKEND)
        (made.path / "pyproject.toml").write_text(PROJECT)
        (made.path / "sync").mkdir()
        (made.path / "sync/__init__.py").touch()
        made.lock("deploy/build.lock", made.release("tool", "1.0"))
        made.lock("deploy/demo.lock", made.release("mews_client", "1.0"))
        made.release("mews_client", "1.1")
        yield made


@pytest.fixture(autouse=True)
def _no_test_needs_another(checkout: Checkout) -> None:
    """What a test before this one has made may stay, unless that is more than the demo's."""
    client = (checkout.path / "deploy/demo.lock").read_text()
    checkout.lock("tests/requirements.lock", client, checkout.release("tests_tool", "1.0"))
    note = checkout.path / ".venv/made-of"
    if note.exists() and "tests/requirements.lock" in note.read_text():
        shutil.rmtree(checkout.path / ".venv")


DEMO = {"voucher-sync": "1", "tool": "1.0", "mews_client": "1.0"}
TESTS = DEMO | {"tests_tool": "1.0"}


def test_nothing_that_is_set_for_another_pip_or_python_changes_what_is_installed(checkout: Checkout) -> None:
    elsewhere = checkout.path.parent / "elsewhere"

    done = checkout.make(
        HOME="/nonexistent", LC_ALL="C", PYTHONHOME="/nonexistent", PYTHONPATH="/nonexistent", PYTHONWARNINGS="error",
        PYTHONOPTIMIZE="2", PYTHONINSPECT="1", PIP_TARGET=str(elsewhere), PIP_PREFIX=str(elsewhere), PIP_USER="1",
        PIP_REQUIRE_VIRTUALENV="1", PIP_NO_BINARY=":all:", PIP_CONSTRAINT="/nonexistent", PIP_DRY_RUN="1", PIP_PRE="1",
        PIP_REQUIREMENT="/nonexistent", PIP_QUIET="3", PIP_REQUIRE_HASHES="0",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert checkout.installed() == DEMO
    assert not elsewhere.exists()


def test_what_is_made_already_is_left_alone_and_what_is_missing_is_added(checkout: Checkout) -> None:
    assert checkout.make().returncode == 0
    assert checkout.make().stderr == ""
    tests = checkout.make("installed-tests")
    assert tests.returncode == 0, tests.stderr
    assert checkout.installed() == TESTS
    assert checkout.make().stderr == ""  # the demo's is in it


def test_a_checkout_that_was_moved_runs_its_own_sources(checkout: Checkout) -> None:
    was, checkout.path = checkout.path, checkout.path.with_name("moved " + "far " * 30)
    was.rename(checkout.path)

    done = checkout.make()

    assert done.returncode == 0, done.stderr
    assert checkout.installed() == DEMO
    script = (checkout.path / ".venv/bin/pip").read_text()
    assert str(was) not in script


def left_by_ctrl_c(venv: Path) -> None:
    (venv / "made-of").unlink()
    (next(venv.glob("lib/python*/site-packages/mews_client-1.0.dist-info")) / "RECORD").unlink()


def python_is_gone(venv: Path) -> None:
    (venv / "bin/python").unlink()
    (venv / "bin/python").symlink_to("/nonexistent/python3.11")


def only_its_directory(venv: Path) -> None:
    shutil.rmtree(venv)
    venv.mkdir()


@pytest.mark.parametrize("harm", [left_by_ctrl_c, python_is_gone, only_its_directory])
def test_an_environment_that_is_half_there_is_made_anew(checkout: Checkout, harm: object) -> None:
    assert checkout.make().returncode == 0
    assert callable(harm)
    harm(checkout.path / ".venv")

    done = checkout.make()

    assert done.returncode == 0, done.stderr
    assert checkout.installed() == DEMO


def test_another_lock_makes_it_anew_without_what_is_no_longer_listed(checkout: Checkout) -> None:
    assert checkout.make("installed-tests").returncode == 0
    checkout.lock("tests/requirements.lock", (checkout.path / "deploy/demo.lock").read_text())

    done = checkout.make("installed-tests")

    assert done.returncode == 0, done.stderr
    assert checkout.installed() == DEMO


def test_what_has_not_the_locks_hash_is_not_installed_and_the_next_try_begins_anew(checkout: Checkout) -> None:
    lock = (checkout.path / "deploy/demo.lock").read_text()
    checkout.lock("deploy/demo.lock", lock[:-3], "00\n")
    refused = checkout.make()
    checkout.lock("deploy/demo.lock", lock)

    assert refused.returncode != 0
    assert "HASHES" in refused.stderr
    assert "cannot be made: the cause stands above" in refused.stderr
    assert checkout.make().returncode == 0
    assert checkout.installed() == DEMO


def as_a_user_without_a_name(checkout: Checkout) -> subprocess.CompletedProcess[str]:
    """environment.py by somebody who is in no list of users, as in many containers, and has no HOME."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be somebody else")
    theirs = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    if theirs is None:
        pytest.skip("needs a Python that others can reach")
    shutil.rmtree(checkout.path / ".venv", ignore_errors=True)
    open_to_all(checkout.path.parent)
    command = [theirs, str(checkout.path / ".ci/environment.py"), "demo"]
    shell = {"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": str(checkout.configuration)}
    return subprocess.run(
        command, check=False, capture_output=True, text=True, cwd="/", env=shell, user=NAMELESS, group=NAMELESS
    )


def test_a_user_without_a_name_and_a_home_needs_neither(checkout: Checkout) -> None:
    (checkout.path / ".venv").mkdir(exist_ok=True)
    shutil.chown(checkout.path, NAMELESS, NAMELESS)

    done = as_a_user_without_a_name(checkout)

    shutil.chown(checkout.path, 0, 0)
    assert done.returncode == 0, done.stderr
    assert checkout.installed() == DEMO
    assert not [path.name for path in checkout.path.iterdir() if "~" in path.name]


def test_a_checkout_that_cannot_be_written_to_says_so(checkout: Checkout) -> None:
    done = as_a_user_without_a_name(checkout)

    assert done.returncode == 1
    assert "make a copy of the checkout that is yours" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [[], ["all"], ["demo", "tests"]])
def test_whoever_calls_it_wrongly_is_told_how(arguments: list[str]) -> None:
    told = subprocess.run(
        [sys.executable, str(ROOT / ".ci/environment.py"), *arguments], check=False, capture_output=True, text=True
    )
    assert (told.returncode, told.stdout, told.stderr) == (2, "", "usage: environment.py demo|tests|peers\n")


def test_what_is_measured_beside_us_gets_an_environment_of_its_own_without_us_in_it(checkout: Checkout) -> None:
    checkout.lock("benchmarks/peers/requirements.lock", checkout.release("dlt", "1.0"))

    done = checkout.make("installed-peers")

    assert done.returncode == 0, done.stderr
    code = "import importlib.metadata as m\nfor d in m.distributions(): print(d.name)"
    listed = subprocess.run(
        [checkout.path / ".venv-peers/bin/python", "-c", code], cwd="/", check=True, capture_output=True, text=True
    )
    assert set(listed.stdout.split()) - {"pip", "setuptools"} == {"dlt", "tool"}
    assert checkout.make("installed-peers").stderr == ""
