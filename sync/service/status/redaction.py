"""Reasons without codes: what the API says of a refused change may quote its code, and more codes than that."""

import re
from collections.abc import Collection, Iterable

from sync.core.printable import printable, quoted

TAKEN_OUT = "…"
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|“[^”]*”|‘[^’]*’|«[^»]*»")
ID = re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b")
WORD = re.compile(r"[^\s…,;:()\[\]]+")
EDGES = ".!?\"'`"


def without_code(reason: str, value: str | None) -> str:
    """A reason without a change's own code, however it is spelt, and without whatever is quoted or an id.

    So reasons that differ in their code alone are one, and most codes of others are out of it too: `words` are what is
    left to look up.
    """
    if value:
        reason = quoted(value).sub(TAKEN_OUT, reason)
    for pattern in (QUOTED, ID):
        reason = pattern.sub(TAKEN_OUT, reason)
    return printable(reason)


def words(reasons: Iterable[str]) -> set[str]:
    """Every word of them that may be a code, as it stands and in capitals."""
    found = {word for reason in reasons for one in WORD.findall(reason) for word in (one, one.strip(EDGES))}
    return found | {word.upper() for word in found} - {""}


def without_codes(reason: str, codes: Collection[str]) -> str:
    """A reason without the words that are codes; those are given folded."""

    def shown(match: re.Match[str]) -> str:
        word = match[0]
        return TAKEN_OUT if word.casefold() in codes or word.strip(EDGES).casefold() in codes else word

    return WORD.sub(shown, reason)
