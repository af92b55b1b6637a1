"""Which calls failed, by operation and in which way, since somebody last wrote them down; no words of the API's."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sync.core.api_errors import ApiError


@dataclass(frozen=True, slots=True)
class FailedCalls:
    """Calls of one operation that failed in one way; `request_id` of the last that had one."""

    operation: str
    problem: str
    count: int
    request_id: str | None


class FailureLog:
    """What failed and nobody has taken yet."""

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str], FailedCalls] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def note(self, error: ApiError) -> None:
        """Take a call that failed."""
        status = f" ({error.status})" if error.status else ""
        self.put_back([FailedCalls(error.operation, f"{error.summary}{status}", 1, error.request_id)])

    def take(self) -> list[FailedCalls]:
        """All of it, which is forgotten here."""
        taken, self._calls = list(self._calls.values()), {}
        return taken

    def put_back(self, calls: Iterable[FailedCalls]) -> None:
        """Take again what could not be written down."""
        for one in calls:
            key = (one.operation, one.problem)
            before = self._calls.get(key)
            count, request_id = (before.count, before.request_id) if before else (0, None)
            self._calls[key] = replace(one, count=one.count + count, request_id=one.request_id or request_id)
