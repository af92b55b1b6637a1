"""What nobody foresaw, told so that somebody can mend it, and without what a foreign error's text may hold.

A `KeyError` quotes the key, a failed conversion the value, and either may be a token or a code. So what is told is the
kind of error and where it arose; texts of this service's own errors hold nothing secret and are told too, but for the
API's words in them.
"""

import traceback
from importlib.metadata import version
from pathlib import Path

from sync.core.api_errors import ApiError
from sync.core.errors import InternalError, VoucherSyncError
from sync.core.outages import refusal

VERSION = version("voucher-sync")  # when a fault is to be told there may be no descriptor left to look it up with
NO_THREAD = "can't start new thread"
OURS = f"{Path(__file__).parents[1]}/"
SEE_LIMITS = "see what this host lets it have (`ulimit -a`, its memory, its disks)"
WHAT_TO_SEND = (
    "send this line, and the log from a minute before on, to the maintainers of voucher-sync (in its repository, as "
    "CONTRIBUTING.md says); neither holds a token or a code"
)


def internal_error(doing: str, error: BaseException) -> InternalError:
    """The error to tell where `doing` (`pull`, `voucher-sync status`) has ended in a way that nobody foresaw."""
    innermost = _innermost(error)
    if isinstance(innermost, OSError) and innermost.errno is not None:
        return InternalError(f"{doing}: {refusal(innermost)}; {SEE_LIMITS}")
    if _is_out_of_memory(innermost):
        return InternalError(f"{doing}: no memory, or no thread, is left for this process; {SEE_LIMITS}")
    kind = type(innermost).__name__
    return InternalError(
        f"{doing} ended with {kind} in {_place(innermost)}, which is a fault of ours (voucher-sync "
        f"{VERSION}): {WHAT_TO_SEND}"
    )


def told(error: BaseException) -> str:
    """The traceback with what it was caused by, and no text of a foreign error's; local variables are never in one."""
    return _told(error, set())


def _told(error: BaseException, above: set[int]) -> str:
    # An error that is raised out of its group has that group, and so itself, as its cause.
    above = above | {id(error)}
    parts = []
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and id(cause) not in above:
        parts.append(f"{_told(cause, above)}\n\nfrom which came:\n")
    parts += ["Traceback (most recent call last):\n", *traceback.format_tb(error.__traceback__)]
    parts.append(_line(error))
    if isinstance(error, BaseExceptionGroup):
        parts += [f"\n\nin it:\n{_told(one, above)}" for one in error.exceptions if id(one) not in above]
    return "".join(parts)


def _line(error: BaseException) -> str:
    """The kind of an error, and its text where that is this service's own."""
    own = error.redacted() if isinstance(error, ApiError) else error
    return f"{type(error).__name__}: {own}" if isinstance(error, VoucherSyncError) else type(error).__name__


def _innermost(error: BaseException) -> BaseException:
    """The first error of a group, which says no more itself than that there are some."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _is_out_of_memory(error: BaseException) -> bool:
    """A thread that has no memory for its stack is told by CPython in words alone."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and error.args == (NO_THREAD,))


def _place(error: BaseException) -> str:
    """File and line: the last of ours, or the last of all."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "an unknown place"
    ours = [frame for frame in frames if frame.filename.startswith(OURS)]
    frame = (ours or frames)[-1]
    file = f"sync/{frame.filename.removeprefix(OURS)}" if ours else Path(frame.filename).name
    return f"{file}:{frame.lineno}"
