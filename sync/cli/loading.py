"""Loads what a command works with: most of a second's work, and the reason why help comes without it."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Import in this block without looking for garbage, and never look for any among what it brought.

    What modules make stays as long as the process. Searched again and again while they load, by the full collections of
    a daemon, and once more at the end, it would cost a third of a short command.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
