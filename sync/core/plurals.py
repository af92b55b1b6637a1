"""Counts, shares and times in words."""


def plural(number: int, one: str, many: str | None = None) -> str:
    """So many of them; `many`: what more or less than one are called, if not the same with an s."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def percent(share: float) -> str:
    """A share as a setting gives it, 0 to 1, unrounded: 0.005 is 0.5%, and not 0%."""
    return f"{100 * share:g}%"


def in_seconds(number: float) -> str:
    """So many seconds as a setting gives them: 2592000 s, and not 2.592e+06 s."""
    return f"{number:.10g} s"
