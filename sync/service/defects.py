"""What becomes of a fault of ours: the log has it in full, and whatever else goes on."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

from sync.core.errors import InternalError
from sync.core.internal_errors import internal_error
from sync.logger import structlog

log = structlog.get_logger()


@dataclass(slots=True)
class Ending:
    """What a block has ended with that nobody foresaw, as it is told; None: with nothing of that kind."""

    error: InternalError | None = None


@dataclass(frozen=True, slots=True)
class Outlived:
    """The block of `outlived`. Without a generator, whose frame is kept as long: two of them last as long as each
    connection does.
    """

    job: str
    but: tuple[type[Exception], ...]
    concerned: Mapping[str, str]
    ending: Ending

    def __enter__(self) -> Ending:
        return self.ending

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception) or isinstance(error, self.but):
            return False
        self.ending.error = internal_error(self.job, error)
        log.exception("defect", job=self.job, error=str(self.ending.error), exc_info=error, **self.concerned)
        return True


def outlived(job: str, *, but: tuple[type[Exception], ...] = (), **concerned: str) -> Outlived:
    """Log, with its traceback, what ends the block and nobody foresaw, and go on behind it.

    `but`: errors that are somebody else's to handle. `concerned`: the `connection`, where the job is one connection's.
    """
    return Outlived(job, but, concerned, Ending())
