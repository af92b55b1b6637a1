"""What the documents and comments of this repository name, and whether a clone has it."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
LEFT_OUT = {".git", ".venv", ".venv-peers", ".bench", ".hypothesis", ".cache", "dist", "htmlcov", "__pycache__"}
ENDINGS = "md|py|sql|toml|ya?ml|ini|lock|patch|sh|mako"
CITED = re.compile(rf"(?<![\w./*{{<-])(?:[\w.-]+/)*[\w-][\w.-]*\.(?:{ENDINGS})(?![\w*-]|\.\w)")
FOLDER = re.compile(r"(?<![\w./{<-])(?:sync|tests)(?:/[\w-]+)+/?(?![\w./*{<-]|\.\w)")
IN_WHEEL = {"sync/migrations"}
"""What only an installed wheel has."""
OUTSIDE = re.compile(r"(?<![\w./])\.\./[\w./-]+")
SECTION = re.compile(r"([\w./-]+\.md), \*([^*]+)\*(?: and \*([^*]+)\*)?")
ADDRESS = re.compile(r"https?://\S+")
IN_PROSE = {".md", ".toml", ".yaml", ".yml", ".sh", ".service", ".ini", ".sql", ".example", ".mako"}
"""Endings of files that are read whole: what they hold are words, comments and paths."""
BARE = {"Makefile", "Dockerfile", "Dockerfile.dockerignore", ".gitignore", "run", "gates", "hostile"}


@cache
def files() -> tuple[PurePosixPath, ...]:
    """Every file of the tree, as a clone has it, and what is not added yet."""
    return tuple(sorted(PurePosixPath(path.relative_to(ROOT)) for path in _files_below(ROOT)))


def _files_below(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_file():
            yield path
        elif path.name not in LEFT_OUT and not path.name.endswith("_cache"):
            yield from _files_below(path)


@cache
def _ends() -> frozenset[str]:
    """Every path of the tree, and whatever may be left of one when its first folders are left out."""
    return frozenset("/".join(path.parts[first:]) for path in files() for first in range(len(path.parts)))


def texts() -> Iterator[tuple[PurePosixPath, str]]:
    """Files with what is written in them for people: documents, and the comments and docstrings of code."""
    for path in files():
        if path.suffix == ".py":
            yield path, told_in((ROOT / path).read_text(encoding="utf-8"))
        elif path.suffix in IN_PROSE or path.name in BARE:
            yield path, (ROOT / path).read_text(encoding="utf-8")


def told_in(source: str) -> str:
    """The comments of Python code, and every string that stands alone, as docstrings do."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
    alone = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Expr))
    strings = [one.value for one in alone if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return "\n".join([*comments, *strings])


def missing_files(path: PurePosixPath, text: str) -> set[str]:
    """What a text in the file at `path` cites, and a clone does not have."""
    words = ADDRESS.sub("", text)
    outside = {one for one in OUTSIDE.findall(words) if not _is_within(path, one)}
    folders = {one for one in FOLDER.findall(words) if one not in IN_WHEEL and not (ROOT / one).exists()}
    return outside | folders | {one for one in CITED.findall(words) if not _is_there(path, one)}


def missing_sections(path: PurePosixPath, text: str) -> set[str]:
    """Sections that a text in the file at `path` cites, as in 'README.md, *Settings*', and a clone does not have."""
    missing = set[str]()
    for name, *titles in SECTION.findall(" ".join(text.split())):
        document = next((one for one in (path.parent / name, PurePosixPath(name)) if (ROOT / one).is_file()), None)
        headings = (
            re.findall(r"^#+ (.+)$", (ROOT / document).read_text(encoding="utf-8"), re.MULTILINE) if document else []
        )
        missing |= {f"{name}, *{title}*" for title in titles if title and title not in headings}
    return missing


def _is_within(path: PurePosixPath, cited: str) -> bool:
    target = (ROOT / path.parent / cited).resolve()
    return target.is_relative_to(ROOT) and target.exists()


def _is_there(path: PurePosixPath, cited: str) -> bool:
    if (ROOT / cited).exists() or (ROOT / path.parent / cited).exists():
        return True
    # A bare name, or the end of a path, may stand for code that is near; a document is cited by its place.
    return not cited.endswith(".md") and cited in _ends()
