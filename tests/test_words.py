"""One word for one thing: no name that docs/glossary.md calls gone stands in the code again, nor in another name."""

import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.documents import ROOT, files

GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
GONE = frozenset(
    name
    for row in GLOSSARY.partition("## Words that are gone")[2].splitlines()
    if row.startswith("| `")
    for name in re.findall(r"`(\w+)`", row.split("|")[1])
)

KEPT = {"settled_at", "settled_before", "sync_settle_after_s", "rescued", "braked", "audit_braked"}
"""Names of columns, settings and keys that users see, as they were."""


def words_of(name: str) -> set[str]:
    """A name, and the words that it is made of."""
    return {name, *(word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name))}


def gone_in(path: Path) -> set[str]:
    """The names in a module that are gone, or made of a word that is."""
    return {name for name in names_in(path) if words_of(name) & GONE and not is_kept(name)}


def is_kept(name: str) -> bool:
    return name in KEPT or name.startswith("sync_delete_brake_")


def names_in(path: Path) -> Iterator[str]:
    """The names in a module, and its own."""
    yield path.stem
    with path.open("rb") as text:
        yield from (token.string for token in tokenize.tokenize(text.readline) if token.type == tokenize.NAME)


@pytest.mark.long
def test_no_word_that_is_gone_is_a_name_in_the_code() -> None:
    ours = {"sync", "tests", "benchmarks"}
    modules = [path for path in files() if path.suffix == ".py" and path.parts[0] in ours]
    assert len(modules) > 300
    found = {str(path): gone_in(ROOT / path) for path in modules}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize("name", ["TooHeavy", "Budget", "weather", "settle_rows", "BadWeather", "NO_BRAKE"])
def test_one_that_came_back_would_be_found(tmp_path: Path, name: str) -> None:
    path = tmp_path / "module.py"
    path.write_text(f"def of(it):\n    return it.{name}\n", encoding="utf-8")
    assert gone_in(path) == {name}


@pytest.mark.parametrize("name", ["place", "Circuits", "reading", "sync_delete_brake_min", "settled_at"])
def test_what_only_looks_like_one_is_not_taken_for_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / "module.py"
    path.write_text(f"def of(it):\n    return it.{name}\n", encoding="utf-8")
    assert gone_in(path) == set()
