"""What becomes of a fault of ours: the log has it in full, and whatever else goes on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from sync.core.errors import InternalError
from sync.core.internal_errors import internal_error

log = structlog.get_logger()


@dataclass(slots=True)
class Ending:
    """What a block has ended with that nobody foresaw, as it is told; None: with nothing of that kind."""

    error: InternalError | None = None


@contextmanager
def outlived(job: str, *, but: tuple[type[Exception], ...] = (), **concerned: str) -> Iterator[Ending]:
    """Log, with its traceback, what ends the block and nobody foresaw, and go on behind it.

    `but`: errors that are somebody else's to handle. `concerned`: the `connection`, where the job is one connection's.
    """
    ending = Ending()
    try:
        yield ending
    except but:
        raise
    except Exception as error:
        ending.error = internal_error(job, error)
        log.exception("defect", job=job, error=str(ending.error), **concerned)
