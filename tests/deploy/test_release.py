"""What `make dist` builds: the same bytes from the same sources anywhere, with what a run needs and nothing else."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MADE_AT = 1_600_000_000
"""Seconds of when sources were written: a wheel can tell no time before 1980."""

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "alembic.ini", "sync", "migrations")
MODULES = {str(path.relative_to(ROOT)) for kind in ("*.py", "*.sql") for path in (ROOT / "sync").rglob(kind)}
OF_THE_PAGE = {
    str(path.relative_to(ROOT))
    for folder in ("static", "templates")
    for path in (ROOT / "sync" / "web" / "page" / folder).iterdir()
}
MIGRATIONS = {
    f"sync/{path.relative_to(ROOT)}" for kind in ("*.py", "*.sql") for path in (ROOT / "migrations").rglob(kind)
}


def built(checkout: Path, *, umask: int = 0o022, **environment: str) -> tuple[Path, Path]:
    """The wheel and the source archive of `checkout`."""
    command = [sys.executable, "-m", "hatchling", "build"]
    shell = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"} | environment
    subprocess.run(command, cwd=checkout, check=True, capture_output=True, umask=umask, env=shell)
    return next(checkout.glob("dist/*.whl")), next(checkout.glob("dist/*.tar.gz"))


def a_copy(directory: Path, *, backwards: bool = False, mode: int = 0o644) -> Path:
    """The sources, written in another order and with other times and modes than git's."""
    directory.mkdir(parents=True)
    for name in sorted(SOURCES, reverse=backwards):
        paths = [ROOT / name, *(ROOT / name).rglob("*")]
        for path in sorted(paths, reverse=backwards):
            if path.is_file() and "__pycache__" not in path.parts:
                target = directory / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
                target.chmod(mode)
                os.utime(target, (MADE_AT + mode, MADE_AT + mode))
    return directory


@pytest.fixture(scope="module")
def wheel_and_archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return built(a_copy(tmp_path_factory.mktemp("release") / "checkout"))


def sums(*paths: Path) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


@pytest.mark.long
def test_a_release_is_the_same_bytes_wherever_it_is_built(tmp_path: Path, wheel_and_archive: tuple[Path, Path]) -> None:
    elsewhere = a_copy(tmp_path / "gäste haus", backwards=True, mode=0o600)

    again = built(elsewhere, umask=0o077, TZ="Pacific/Auckland", LC_ALL="C", PYTHONHASHSEED="7")

    assert sums(*again) == sums(*wheel_and_archive)


@pytest.mark.long
def test_another_source_is_another_release(tmp_path: Path, wheel_and_archive: tuple[Path, Path]) -> None:
    checkout = a_copy(tmp_path / "checkout")
    with (checkout / "sync/__main__.py").open("a") as module:
        module.write("# another\n")

    assert not set(sums(*built(checkout))) & set(sums(*wheel_and_archive))


@pytest.mark.long
def test_the_source_archive_builds_the_same_wheel(tmp_path: Path, wheel_and_archive: tuple[Path, Path]) -> None:
    wheel, archive = wheel_and_archive
    with tarfile.open(archive) as members:
        members.extractall(tmp_path, filter="data")

    assert sums(built(next(tmp_path.iterdir()))[0]) == sums(wheel)


def test_the_wheel_holds_all_modules_all_migrations_and_the_licence_and_nothing_else(
    wheel_and_archive: tuple[Path, Path],
) -> None:
    names = set(zipfile.ZipFile(wheel_and_archive[0]).namelist())
    about = {name for name in names if ".dist-info/" in name}

    assert names - about == MODULES | MIGRATIONS | OF_THE_PAGE | {"sync/migrations/script.py.mako"}
    assert OF_THE_PAGE
    assert {name.partition("/")[2] for name in about} == {
        "METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"
    }  # fmt: skip


def test_the_source_archive_holds_the_sources_and_nothing_else(wheel_and_archive: tuple[Path, Path]) -> None:
    with tarfile.open(wheel_and_archive[1]) as members:
        names = {name.partition("/")[2] for name in members.getnames()}

    assert {name.partition("/")[0] for name in names} == {*SOURCES, "PKG-INFO"}


def test_what_is_built_says_under_what_licence(wheel_and_archive: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(wheel_and_archive[0]) as wheel:
        (metadata,) = (wheel.read(name).decode() for name in wheel.namelist() if name.endswith("/METADATA"))

    assert "\nLicense-Expression: MIT\n" in metadata


def test_everything_that_make_installs_goes_through_the_locks() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    installs = [line.strip() for line in makefile.splitlines() if "pip" in line and " install" in line]

    assert installs == ["@$(BIN)/python -m pip install --quiet uv"]  # for `make lock`, which asks the registry anyway
