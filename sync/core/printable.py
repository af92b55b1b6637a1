"""What others have written, as it may stand in a line."""


def printable(words: str) -> str:
    """A text without what moves a terminal's cursor, breaks a line or turns the direction of writing: blanks for it."""
    return "".join(one if one.isprintable() else " " for one in words)
