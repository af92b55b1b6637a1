"""What an engine asks of its database."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine


@contextmanager
def statements(engine: AsyncEngine) -> Iterator[list[str]]:
    """The statements that the block sends, without those that begin and end transactions."""
    said: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith(("BEGIN", "SET LOCAL")):
            said.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    try:
        yield said
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", note)


@contextmanager
def acting_after(engine: AsyncEngine, number: int, act: Callable[[], object]) -> Iterator[list[str]]:
    """The statements that the block sends, also those that begin transactions; behind so many of them this acts."""
    said: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        said.append(statement)
        if len(said) == number:
            act()

    event.listen(engine.sync_engine, "after_cursor_execute", note)
    try:
        yield said
    finally:
        event.remove(engine.sync_engine, "after_cursor_execute", note)
