"""What is written for operators is so: examples, commands, and the files that they name."""

import re
import shutil
from pathlib import Path

import click
import pytest
from pydantic import SecretStr

from sync.cli.commands import voucher_sync
from sync.settings import Settings
from tests.deploy.helpers import DEPLOY, README, command, needs
from tests.support.pages import parse_command

FILES = [path for path in sorted(DEPLOY.iterdir()) if path.is_file() and path.suffix != ".lock"]
CALLS = sorted(
    set(re.findall(r"(?m)^(?:(?:docker compose|kubectl) exec .*\b)?voucher[-_]sync (?!\|)([a-z].*)$", README))
)
"""How our commands are called in blocks, by whatever way leads to them."""
NO_DEFAULT = {"SYNC_BACKFILL_FROM"}
"""Examples in `voucher-sync.env.example` of what has no default."""


def settings_of_the_example() -> list[tuple[str, str]]:
    text = (DEPLOY / "voucher-sync.env.example").read_text()
    return re.findall(r"(?m)^#([A-Z][A-Z0-9_]*)=(.*)$", text)


def test_the_example_of_settings_sets_nothing() -> None:
    text = (DEPLOY / "voucher-sync.env.example").read_text()

    assert [line for line in text.splitlines() if line and not line.startswith("#")] == []
    assert len(settings_of_the_example()) > 5


@pytest.mark.parametrize(("name", "value"), settings_of_the_example())
def test_the_example_shows_a_setting_that_exists_with_its_default(name: str, value: str) -> None:
    field = Settings.model_fields[name.lower()]
    read = getattr(Settings.model_validate({name.lower(): value}), name.lower())

    if name in NO_DEFAULT:
        assert field.default is None
        assert read is not None
    else:
        assert read == field.default
    assert not isinstance(read, SecretStr)


def test_every_command_that_is_written_about_exists() -> None:
    for path in FILES:
        for name, options in re.findall(
            r"(?:`|bin/|exec voucher-sync )voucher-sync ([a-z]+)((?: --[a-z-]+)*)", path.read_text()
        ):
            known = {option for parameter in command_named(name).params for option in parameter.opts}
            assert set(options.split()) <= known, f"{path.name}: {name}{options}"


def command_named(name: str) -> click.Command:
    assert name in voucher_sync.commands, f"there is no `voucher-sync {name}`"
    return voucher_sync.commands[name]


def test_the_check_of_commands_sees_them() -> None:
    assert re.search(r"exec voucher-sync voucher-sync check", README)
    assert re.search(r"`voucher-sync status --healthy`", README)


@pytest.mark.parametrize("name", ["compose.yaml", "voucher-sync.service", "voucher-sync.env.example"])
def test_what_refers_to_the_instructions_finds_them(name: str) -> None:
    assert "README.md" in (DEPLOY / name).read_text()


def shell_blocks() -> list[str]:
    return re.findall(r"(?ms)^```sh\n(.*?)^```$", README)


def test_the_instructions_commands_are_sound_shell(tmp_path: Path) -> None:
    shellcheck = needs("shellcheck")
    blocks = shell_blocks()
    assert len(blocks) > 10
    scripts = []
    for number, block in enumerate(blocks):
        script = tmp_path / f"block-{number}.sh"
        script.write_text(f"#!/bin/bash\nset -e\n{block}")
        scripts.append(str(script))

    done = command(shellcheck, "--color=never", *scripts)

    assert done.returncode == 0, done.stdout


def test_compose_is_called_where_its_file_is() -> None:
    # Each block begins in the root of the repository, where Compose finds no file.
    beginnings = [block.partition("docker compose ")[0] for block in shell_blocks() if "docker compose " in block]
    assert len(beginnings) > 5
    assert [one for one in beginnings if "cd deploy\n" not in one] == []


@pytest.mark.parametrize("line", CALLS)
def test_a_command_is_called_as_it_can_be(line: str) -> None:
    parse_command(f"voucher-sync {line}")


def test_a_patch_for_kubernetes_takes_the_token_of_the_environment_away(tmp_path: Path) -> None:
    (patch,) = re.findall(r"(?ms)^```yaml\n(patches:\n.*?)^```$", README)
    folder = shutil.copytree(DEPLOY / "kubernetes", tmp_path / "kubernetes") / "overlays" / "example"
    before = command(needs("kubectl"), "kustomize", str(folder)).stdout
    with (folder / "kustomization.yaml").open("a") as overlay:
        overlay.write(patch)
    after = command(needs("kubectl"), "kustomize", str(folder)).stdout

    names = ("MEWS_ACCESS_TOKEN_FILE", "MEWS_CLIENT_TOKEN_FILE")
    assert [(before.count(name), after.count(name)) for name in names] == [(2, 0), (2, 2)]


def test_the_instructions_name_only_files_that_exist() -> None:
    made_by_the_operator = {"deploy/voucher-sync.env", "deploy/.env", "deploy/kubernetes/overlays/mine"}
    for name in set(re.findall(r"\bdeploy/[\w./-]*\w", README)) - made_by_the_operator:
        assert (DEPLOY.parent / name).exists(), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_holds_what_must_stay_out_of_the_repository(path: Path) -> None:
    text = path.read_text()

    # With brackets, so that this line is none of those that it looks for.
    assert not re.search(r"(?i)index-url|find-links|/roo[t]/|(?<![\w/])/wor[k]/", text)
    assert not re.search(r"[0-9A-F]{32}-[0-9A-F]{32}", text), "a token of the API"
