"""What others have written, as it may stand in a line."""

import re

SHORT = 3
"""A text of so few characters is looked for only as a word: else nothing would be left to read of what it stands in."""


def printable(words: str) -> str:
    """A text without what moves a terminal's cursor, breaks a line or turns the direction of writing: blanks for it."""
    return "".join(one if one.isprintable() else " " for one in words)


def in_a_line(words: str) -> str:
    """A text as `printable`, with one blank for each run of them, and none around it."""
    return " ".join(printable(words).split())


def quoted(text: str) -> re.Pattern[str]:
    """Finds a text where others quote it, in capitals or not, and whatever they or `in_a_line` made of its blanks."""
    literally = r"\s+".join(map(re.escape, in_a_line(text).split()))
    if len(text) <= SHORT:
        literally = rf"(?<!\w){literally}(?!\w)"
    return re.compile(literally if in_a_line(text) else "(?!)", re.IGNORECASE)
