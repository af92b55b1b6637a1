"""JSON that is nested more deeply than a parser can follow, made readable."""

import re

MAX_DEPTH = 100
"""Nothing of the API's is nested deeper than five levels."""
# A text without an end is one, too: to look for that again from each quote in it would take hours for a few megabytes.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[{\]}]', re.DOTALL)


def prune(text: str) -> str:
    """The same JSON with null for whatever lies deeper than `MAX_DEPTH`: it spoils its own record, and no other."""
    kept, depth, begin = list[str](), 0, 0
    for token in _TOKEN.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth == MAX_DEPTH + 1:
                kept += (text[begin : token.start()], "null")
        elif token[0] in "]}":
            if depth == MAX_DEPTH + 1:
                begin = token.end()
            depth -= 1
    return "".join([*kept, text[begin:] if depth <= MAX_DEPTH else ""])
