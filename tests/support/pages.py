"""What stands in a Markdown page: its blocks, links and anchors, and the command lines in it."""

import re
import shlex
from pathlib import Path

import click

from sync.cli.commands import voucher_sync

LINK = re.compile(r"\]\(([^):#]*)(?:#([^)]+))?\)")
"""The target of a link within the repository, and what it names in it."""
COMMAND = re.compile(r"^(?:\S+/)?voucher-sync (.+)$", re.MULTILINE)


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a language, also those that stand in a list."""
    found = re.finditer(rf"(?ms)^( *)```{language}\n(.*?)^\1```$", text)
    return [re.sub(rf"(?m)^{one[1]}", "", one[2]) for one in found]


def inline(text: str, beginning: str) -> list[str]:
    """What stands between backticks and begins so, less what leaves something out."""
    spans = re.findall(r"`([^`]+)`", re.sub(r"(?ms)^ *```.*?^ *```$", "", text))
    return [" ".join(one.split()) for one in spans if one.startswith(beginning) and "..." not in one]


def commands(text: str) -> list[str]:
    """The calls of voucher-sync in blocks and between backticks, each without the folder of the program."""
    in_blocks = "".join(blocks(text, "sh")).replace("\\\n", " ")
    return sorted(
        {f"voucher-sync {' '.join(line.split())}" for line in COMMAND.findall(in_blocks)}
        | set(inline(text, "voucher-sync "))
    )


def parse_command(line: str) -> None:
    """Take a call as the program does, and run nothing. Raises click.UsageError where it cannot be called so."""
    program, *words = shlex.split(line, comments=True)
    command: click.Command = voucher_sync
    context = click.Context(command)
    while isinstance(command, click.Group) and words:
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command, context = found, click.Context(found, parent=context, info_name=name)

    assert program == "voucher-sync"
    if not isinstance(command, click.Group):
        with command.make_context(line, words):
            pass  # files that it opened are closed


def anchors(path: Path) -> set[str]:
    """What a link may name behind the #, as the page's viewers make it of headings."""
    found = list[str]()
    for heading in re.findall(r"(?m)^#+ (.+)$", re.sub(r"(?ms)^```.*?^```$", "", path.read_text(encoding="utf-8"))):
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        before = sum(one == name or re.fullmatch(rf"{re.escape(name)}-\d+", one) is not None for one in found)
        found.append(f"{name}-{before}" if before else name)
    return set(found)
