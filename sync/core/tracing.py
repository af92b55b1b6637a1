"""Spans: what the parts are doing, told to a tracer where there is one, which `sync.tracing` sets.

Attributes are counts, names of operations and connections, and ids; no body, no token and no code's value. Without a
tracer a span is one look at a variable.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol

Value = str | int | float | bool


class Span(Protocol):
    """Something that is being done."""

    def set(self, **attributes: Value) -> None:
        """Tell more of it, once that is known."""


Tracer = Callable[[str, Mapping[str, Value]], AbstractContextManager[Span]]
"""Begins a span of a name, with attributes, in the one that is under way; ends it with the block, and its error."""


class _NoSpan:
    def set(self, **attributes: Value) -> None:
        pass

    def __enter__(self) -> Span:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass


class _Current:
    tracer: Tracer | None = None


NO_SPAN = _NoSpan()


def trace_by(tracer: Tracer | None) -> None:
    """Tell this one from now on; None: nobody."""
    _Current.tracer = tracer


def span(name: str, **attributes: Value) -> AbstractContextManager[Span]:
    """What is done in the block."""
    return NO_SPAN if _Current.tracer is None else _Current.tracer(name, attributes)
