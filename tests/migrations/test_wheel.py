"""A wheel holds all migrations, and an installed one migrates by them."""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.migrations.helpers import (
    CHECKOUT,
    MIGRATE,
    everything,
    head,
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the contents of a wheel that was built from the checkout."""
    built, installed = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True)
    (wheel,) = built.iterdir()
    with ZipFile(wheel) as archive:
        archive.extractall(installed)
    return installed


def run_installed(installed: Path, script: str, *arguments: str) -> str:
    """What a script prints that finds the wheel's packages, far away from the checkout."""
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=installed.parent, env={"PYTHONPATH": str(installed)}, check=True, stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip


def test_a_wheel_holds_the_package_and_every_migration_and_nothing_else(installed: Path) -> None:
    assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} == {"sync"}
    shipped, ours = installed / "sync" / "migrations", CHECKOUT / "migrations"
    expected, found = (
        {path.relative_to(tree): path.read_bytes() for path in tree.rglob("*") if path.suffix in {".py", ".sql"}}
        for tree in (ours, shipped)
    )
    assert found == expected
    page = Path("sync/web/page")
    for folder in ("static", "templates"):
        of_page, shipped_of_page = (
            {path.name: path.read_bytes() for path in (root / page / folder).iterdir()}
            for root in (CHECKOUT, installed)
        )
        assert shipped_of_page == of_page


@pytest.mark.long
def test_an_installed_wheel_migrates_by_its_own_migrations(
    installed: Path, tmp_path: Path, empty_database_url: str, database_url: str
) -> None:
    copy = tmp_path / "site"
    shutil.copytree(installed, copy)
    assert run_installed(copy, MIGRATE, empty_database_url) == f"None {head()}\n"
    assert everything(empty_database_url) == everything(database_url)

    newer = f"revision = '9999'\ndown_revision = '{head()}'\n\n\ndef upgrade() -> None:\n    pass\n"
    (copy / "sync" / "migrations" / "versions" / "9999_newer.py").write_text(newer)
    assert run_installed(copy, MIGRATE, empty_database_url) == f"{head()} 9999\n"
