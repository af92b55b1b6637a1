"""Counts in words."""


def plural(number: int, one: str, many: str | None = None) -> str:
    """So many of them; `many`: what more or less than one are called, if not the same with an s."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
