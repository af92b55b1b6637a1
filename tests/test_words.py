"""One word for one thing: no name that docs/glossary.md calls gone stands in the code again."""

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
    found = {str(path): GONE.intersection(names_in(ROOT / path)) for path in modules}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize("name", ["TooHeavy", "Budget", "weather"])
def test_one_that_came_back_would_be_found(tmp_path: Path, name: str) -> None:
    path = tmp_path / "module.py"
    path.write_text(f"def of(it):\n    return it.{name}\n", encoding="utf-8")
    assert GONE.intersection(names_in(path)) == {name}
