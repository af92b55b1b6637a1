"""What the README promises is there, and what is there is in the README."""

import re
from pathlib import Path

import click
import pytest

from sync.cli.commands import voucher_sync
from sync.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_setting_in_its_table_exists() -> None:
    documented = re.findall(r"^\| `([A-Z_]+)` \|", README, flags=re.MULTILINE)
    assert documented
    assert set(documented) <= {name.upper() for name in Settings.model_fields}


def test_every_command_is_in_its_table_and_no_other() -> None:
    documented = re.findall(r"^\| `voucher-sync ([a-z ]+)` \|", README, flags=re.MULTILINE)
    assert sorted(documented) == sorted(voucher_sync.commands)


def test_every_option_that_it_names_exists() -> None:
    given = {
        name
        for line in re.findall(r"^\| `voucher-sync.*", README, re.MULTILINE)
        for name in re.findall(r"`(--[a-z-]+)`", line)
    }
    parameters = (one for command in voucher_sync.commands.values() for one in command.params)
    assert given
    assert given <= {name for one in parameters if isinstance(one, click.Option) for name in one.opts}


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^):#]+)\)", README))))
def test_every_file_that_it_links_to_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_every_make_target_that_is_named_exists(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)\b", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE))
    assert named
    assert {target for target in named if not re.search(rf"^{target}:", makefile, re.MULTILINE)} == set()
