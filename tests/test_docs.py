"""What the documents say of the code is so, and nothing cites a file that a clone does not have."""

import ast
import re
import tomllib
from functools import cache
from pathlib import Path, PurePosixPath

import psycopg
import pytest

from sync.outbox.rules import MOVES, USER_MOVES, Status
from sync.postgres.urls import libpq_url
from tests.mutants.patches import INVARIANTS, load_all
from tests.support.documents import ROOT, files, missing_files, missing_sections, texts, told_in

DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (DOCS / "architecture.md").read_text(encoding="utf-8")
PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted(DOCS.glob("*.md")))]
SECTIONS = {
    int(number): text
    for number, text in re.findall(
        r"^## (\d+)\. (.+?)(?=^## |\Z)", (DOCS / "invariants.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
}
IN_DATABASE = """
SELECT conrelid::regclass || '.' || conname FROM pg_constraint
UNION ALL SELECT tgrelid::regclass || '.' || tgname FROM pg_trigger WHERE tgenabled <> 'D'
UNION ALL SELECT indrelid::regclass || '.' || relname FROM pg_index JOIN pg_class ON oid = indexrelid WHERE indisunique
"""


def named(number: int, what: str) -> list[str]:
    """What an invariant's line of this kind names."""
    line = re.search(rf"^- \*\*{what}\*\*: (.+?)(?=^- |\Z)", SECTIONS[number], re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`]+)`", line[1]) if line else []


@cache
def defined_in(path: Path) -> set[str]:
    """What a module defines: functions, classes and constants."""
    names = set[str]()
    for one in ast.parse(path.read_text(encoding="utf-8")).body:
        match one:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(one.name)
            case ast.Assign() | ast.AnnAssign():
                targets = one.targets if isinstance(one, ast.Assign) else [one.target]
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def test_every_invariant_is_there_in_its_order() -> None:
    assert list(SECTIONS) == list(INVARIANTS)


@pytest.mark.parametrize("number", INVARIANTS)
def test_an_invariant_names_tests_that_exist(number: int) -> None:
    tests = [name.partition("::") for name in named(number, "Tests")]
    assert tests
    missing = [f"{path}::{name}" for path, _, name in tests if name not in defined_in(ROOT / path)]
    assert (missing, [name for _, _, name in tests if not name.startswith("test_")]) == ([], [])


@pytest.mark.parametrize("number", INVARIANTS)
def test_an_invariant_lists_its_mutants_and_no_other(number: int) -> None:
    mutants = sorted(mutant.name for mutant in load_all() if mutant.invariant == number)
    assert named(number, "Mutants") == mutants
    assert mutants or "There is no mutant." in SECTIONS[number]


def test_what_is_named_of_the_database_refuses_there(database_url: str) -> None:
    names = {name for number in INVARIANTS for name in named(number, "Database")}
    with psycopg.connect(libpq_url(database_url)) as session:
        found = {row[0] for row in session.execute(IN_DATABASE)}
    assert names
    assert names - found == set()


def test_the_states_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?)\| (.*?)\|$", ARCHITECTURE, re.MULTILINE)
    moves = {Status(old): [set(re.findall(r"`(\w+)`", cell)) for cell in cells] for old, *cells in rows}
    by_users = {old: set(USER_MOVES.get(old, ())) for old in Status}
    assert moves == {old: [set(MOVES[old]) - by_users[old], by_users[old]] for old in Status}


def test_the_tree_has_every_folder_and_module_and_no_other() -> None:
    named_there = set(re.findall(r"`(sync/[\w/]*(?:/|\.py))`", tree := ARCHITECTURE.partition("## The way")[0]))
    folders = {f"{path.parent}/" for path in files() if path.parts[0] == "sync" and path.name == "__init__.py"}
    modules = {str(path) for path in files() if len(path.parts) == 2 and path.match("sync/*.py")}
    assert tree
    assert named_there == folders - {"sync/"} | modules - {"sync/__init__.py"}
    of_readme = set(re.findall(r"^\| `(sync/\w+/)` \|", README, re.MULTILINE))
    assert of_readme == {folder for folder in folders if folder.count("/") == 2}


def test_the_tree_says_what_each_module_of_a_capability_is_for() -> None:
    rows = dict(re.findall(r"^\| `(sync/[\w/]+)/` \| (.+) \|$", ARCHITECTURE, re.MULTILINE))
    in_general = {"sync/cli", "sync/demo"}
    untold = {
        path.relative_to(ROOT).as_posix()
        for folder, told in rows.items()
        for path in (ROOT / folder).iterdir()
        if path.suffix in {".py", ".sql"} and path.stem not in {"__init__", "tables"}
        if not in_general & {folder, "/".join(folder.split("/")[:2])}
        if not {path.stem, path.name} & set(re.findall(r"`([\w.]+)`", told))
    }
    assert untold == set()


def test_every_suite_is_told_what_it_proves() -> None:
    suites = {f"{path.parts[0]}/{path.parts[1]}/" for path in files() if path.match("tests/*/**/test_*.py")}
    suites |= {f"{path.parent}/" for path in files() if path.match("tests/*/test_*.py")}
    assert set(re.findall(r"^\| `(tests/\w+/)` \|", ARCHITECTURE, re.MULTILINE)) == suites


def test_a_rule_stands_where_it_is_said_to() -> None:
    places = re.findall(r"`(sync/[\w/]+\.py)`: `(\w+)`", ARCHITECTURE)
    assert places
    assert [place for place in places if place[1] not in defined_in(ROOT / place[0])] == []


@pytest.mark.parametrize("text", [README, ARCHITECTURE], ids=["README", "architecture"])
def test_the_order_of_layers_is_that_of_the_import_contract(text: str) -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(one["layers"] for one in contracts if one["type"] == "layers")
    words = [layer.replace("sync.", "") for layer in layers]
    assert " → ".join(f"{{ {layer} }}" if "|" in layer else layer for layer in words) in text


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    targets = re.findall(r"\]\(([^):#]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    assert [one for one in targets if not (ROOT / page).parent.joinpath(one).exists()] == []


@pytest.mark.long
def test_nothing_cites_a_file_or_a_section_that_a_clone_does_not_have() -> None:
    cited = {path: missing_files(path, text) | missing_sections(path, text) for path, text in texts()}
    assert len(cited) > 100
    assert {str(path): sorted(missing) for path, missing in cited.items() if missing} == {}


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("Source: design.md, *Contract*.", {"design.md", "design.md, *Contract*"}),
        ("see shared/house.md", {"shared/house.md"}),
        ("as ../shared/mews-api.md says", {"../shared/mews-api.md"}),
        ("(mews-api.md, *Pagination*)", {"mews-api.md", "mews-api.md, *Pagination*"}),
        ("docs/mews-api.md,\n*No such thing*", {"docs/mews-api.md, *No such thing*"}),
        ("sync/mirror/nowhere.py does it", {"sync/mirror/nowhere.py"}),
        ("in `tests/nowhere`, and in tests/mirror", {"tests/nowhere"}),
        ("`docs/mews-api.md`, *Pagination*, and pull.py, and sync/mirror/upsert.py", set[str]()),
        ("README.md, *Settings*; [a page](https://example.com/nowhere.md)", set[str]()),
    ],
)
def test_what_is_not_there_is_found(text: str, missing: set[str]) -> None:
    path = PurePosixPath("sync/core/planted.py")
    told = told_in(f'# {text.splitlines()[0]}\nx = "no-such-file.md is data"\n"""{text}"""\n')
    assert missing_files(path, told) | missing_sections(path, told) == missing
