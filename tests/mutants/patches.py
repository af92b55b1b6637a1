"""Mutants: deliberate breaks of an invariant, one a `.patch` file, that the suite must notice.

A file has a header, a blank line and a unified diff. In the header stand `Invariant:` (its number in
docs/invariants.md), `Sentence:` (what of it is broken), `Breaks:` (what the code does then) and `Tests:` (the files
that hold it, the likeliest first).

Line numbers in a diff mean nothing here: what a hunk replaces, with its context, must stand exactly once in its file.
That outlives changes around it, and what it does not outlive is said, never put in some other place. So a hunk has as
little context as that takes, most often none: `git diff -U0` of a break makes one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
HEADER = ("Invariant", "Sentence", "Breaks", "Tests")
INVARIANTS = range(1, 17)


class Unusable(Exception):
    """A patch that does not say what it must, or does not apply."""


@dataclass(frozen=True, slots=True)
class Hunk:
    """One place of a file, as it stands and as the mutant has it."""

    path: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """One break. `tests` are paths of test files."""

    name: str
    invariant: int
    sentence: str
    breaks: str
    tests: tuple[str, ...]
    hunks: tuple[Hunk, ...]

    def broken(self, root: Path) -> dict[str, str]:
        """The files that it changes, with their new text; `Unusable` if it does not apply to the tree at `root`."""
        texts: dict[str, str] = {}
        for hunk in self.hunks:
            text = texts.get(hunk.path) or (root / hunk.path).read_text(encoding="utf-8")
            if (times := text.count(hunk.before)) != 1:
                raise Unusable(f"{self.name}: what it replaces stands {times} times in {hunk.path}:\n{hunk.before}")
            texts[hunk.path] = text.replace(hunk.before, hunk.after)
        return texts


def load_all() -> list[Mutant]:
    """Every mutant, in the order of the invariants."""
    mutants = [parse(path.stem, path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.patch")]
    return sorted(mutants, key=lambda mutant: (mutant.invariant, mutant.name))


def parse(name: str, text: str) -> Mutant:
    """A mutant from the text of its file."""
    header, _, diff = text.partition("\n\n")
    fields = dict(line.split(": ", 1) for line in header.splitlines() if ": " in line)
    if tuple(fields) != HEADER:
        raise Unusable(f"{name}: its header must be {', '.join(HEADER)}")
    number, sentence, breaks, tests = fields.values()
    return Mutant(name, int(number), sentence, breaks, tuple(tests.split()), tuple(_hunks(diff)))


def _hunks(diff: str) -> Iterator[Hunk]:
    for of_file in re.split(r"^--- .*\n", diff, flags=re.MULTILINE)[1:]:
        names, *hunks = re.split(r"^@@ .*\n", of_file, flags=re.MULTILINE)
        path = names.strip().removeprefix("+++ b/")
        for hunk in hunks:
            lines = [line or " \n" for line in hunk.splitlines(keepends=True)]
            before = "".join(line[1:] for line in lines if line[0] in " -")
            yield Hunk(path, before, "".join(line[1:] for line in lines if line[0] in " +"))
