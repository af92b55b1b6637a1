"""The standard streams as they come: closed, full, unread, or in an encoding that cannot hold what is to be told."""

import codecs
import io
import os
import re
import sys
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_closed = set[str]()
NAMES = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
STDERR = 2
MEASURE = re.compile("[1-9][0-9]{0,3}")
"""What a terminal may be wide or high."""

ONLY_ASCII = "voucher_sync_ascii"
"""ASCII by another name: click takes a stream of that one for badly set up, and writes UTF-8 to it."""


def _only_ascii(name: str) -> codecs.CodecInfo | None:
    if name != ONLY_ASCII:
        return None
    ascii_ = codecs.lookup("ascii")
    return codecs.CodecInfo(
        ascii_.encode, ascii_.decode, ascii_.streamreader, ascii_.streamwriter, ascii_.incrementalencoder,
        ascii_.incrementaldecoder, ONLY_ASCII,
    )  # fmt: skip


def prepare() -> None:
    """Make all three usable.

    The number of a stream that came closed would be the next file's or socket's: what is printed would go to the
    database. What an encoding cannot hold is shown by its number (`\\u2713`), where Python would end in a traceback.
    """
    codecs.register(_only_ascii)
    for name, mode in NAMES:
        stream = getattr(sys, name)
        if stream is None:
            _closed.add(name)
            # Lives as long as the process. The lowest free number is the stream's own.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123 - open to the end
        elif mode == "w":
            stream.reconfigure(errors="backslashreplace")
            if stream is getattr(sys, f"__{name}__"):  # not one that somebody has put in its place, as to capture it
                setattr(sys, name, _unbreakable(stream))
    for name in ("COLUMNS", "LINES"):
        # Left by a terminal that knew none. Of 0 columns rich would print nothing, and `²` is a digit to it.
        if not MEASURE.fullmatch(os.environ.get(name, "80")):
            del os.environ[name]


class _Unbreakable(io.FileIO):
    """A file that swallows what nobody reads any more, as behind `| head`.

    By Python's own, whoever prints would end where the reader does, in the middle of its work.
    """

    is_read = True
    is_lost = False

    def write(self, data: "ReadableBuffer", /) -> int:
        """All of it, once its reader has gone. What is told beside, on stderr, ends no work either for want of room."""
        try:
            return super().write(data)
        except BrokenPipeError:
            self.is_read = False
            forget(self.fileno())
        except OSError:
            if self.fileno() != STDERR:
                self.is_lost = True
                raise
        return memoryview(data).nbytes


def _unbreakable(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """The same stream, whose reader may go."""
    raw = _Unbreakable(stream.fileno(), "w", closefd=False)
    is_buffered = isinstance(stream.buffer, io.BufferedWriter)  # not with PYTHONUNBUFFERED
    return io.TextIOWrapper(
        io.BufferedWriter(raw) if is_buffered else cast("io.BufferedWriter", raw),
        encoding=ONLY_ASCII if codecs.lookup(stream.encoding).name == "ascii" else stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def is_read() -> bool:
    """Whether somebody may still read what is printed, as far as has been noticed: for what goes on only for that."""
    return getattr(_raw_output(), "is_read", True)


def is_lost() -> bool:
    """Whether something was printed for which there was no room."""
    return getattr(_raw_output(), "is_lost", False)


def _raw_output() -> object:
    buffer = getattr(sys.stdout, "buffer", None)
    return getattr(buffer, "raw", buffer)


def is_closed() -> bool:
    """Whether the standard output came closed: what is printed gets nowhere."""
    return "stdout" in _closed


def forget(descriptor: int) -> None:
    """What is written to it from now on goes nowhere, and holds up nobody."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def are_through() -> bool:
    """Whether all that was printed has got out; if not, it is forgotten, or Python would try once more and complain."""
    is_through = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            is_through = False
            forget(stream.fileno())
    return is_through
