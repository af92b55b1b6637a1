"""Files and functions stay short enough to be read as one."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("sync", "tests", "benchmarks", ".ci")
"""Migrations are left out: what was released is never edited again, and each stands for itself."""
ONE_PIECE = {"sync/outbox/triggers.sql"}
"""Loaded as one text, by migrations that keep copies of it whole."""
LINES_OF_A_FILE = 300
LINES_OF_A_FUNCTION = 40


def sources(*suffixes: str) -> Iterator[Path]:
    """Our own files."""
    for folder in FOLDERS:
        yield from (path for path in (ROOT / folder).rglob("*") if path.suffix in suffixes and path.is_file())


def long_files(paths: Iterator[Path]) -> list[str]:
    """Those of too many lines, each with their number."""
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    return [f"{path}: {n}" for path, n in sorted(lengths.items()) if n > LINES_OF_A_FILE and path not in ONE_PIECE]


def long_functions(source: str) -> list[str]:
    """Those of too many lines from `def` on, each with their number; decorators, as a table of cases, don't count."""
    functions = (
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    lengths = ((one.name, (one.end_lineno or one.lineno) - one.lineno + 1) for one in functions)
    return [f"{name}: {n}" for name, n in lengths if n > LINES_OF_A_FUNCTION]


def test_no_file_is_longer_than_300_lines() -> None:
    assert long_files(sources(".py", ".sql")) == []


@pytest.mark.long
def test_no_function_is_longer_than_40_lines() -> None:
    found = {path: long_functions(path.read_text(encoding="utf-8")) for path in sources(".py")}
    assert {str(path.relative_to(ROOT)): names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(("body", "is_long"), [(LINES_OF_A_FUNCTION - 1, False), (LINES_OF_A_FUNCTION, True)])
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_function_that_is_too_long_is_found(kind: str, body: int, is_long: bool) -> None:
    source = "\n".join(["@decorated", f"{kind} f():", *["    pass"] * body])
    assert long_functions(source) == ([f"f: {LINES_OF_A_FUNCTION + 1}"] if is_long else [])


def test_what_may_be_longer_is_there_and_is() -> None:
    assert all(len((ROOT / path).read_text(encoding="utf-8").splitlines()) > LINES_OF_A_FILE for path in ONE_PIECE)
