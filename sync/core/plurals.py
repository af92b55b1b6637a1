"""Counts and shares in words."""


def plural(number: int, one: str, many: str | None = None) -> str:
    """So many of them; `many`: what more or less than one are called, if not the same with an s."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def percent(share: float) -> str:
    """A share as a setting gives it, 0 to 1, unrounded: 0.005 is 0.5%, and not 0%."""
    return f"{100 * share:g}%"
