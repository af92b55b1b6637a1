"""All codes of the world: the truth, and what readers find of it."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sync.demo.simulator.entities import Code
from sync.demo.simulator.instants import Clock
from sync.demo.simulator.timeline import Timeline

BEGINNING = datetime.min.replace(tzinfo=UTC)


class CodeStore:
    """Codes by id. `truth` is what stands; readers find what is `readable()`, which may trail it."""

    def __init__(self, clock: Clock) -> None:
        self.truth: dict[UUID, Code] = {}
        self._clock = clock
        self._timeline = Timeline()
        self._hidden: list[tuple[datetime, Code]] = []
        self._active_values: Counter[tuple[UUID, str]] = Counter()

    def put(self, codes: Iterable[Code], *, hidden_for_s: float = 0.0) -> None:
        """Stores codes as they are. Readers find them, or their new version, after `hidden_for_s` of the clock."""
        codes = list(codes)
        for code in codes:
            if (old := self.truth.get(code.id)) is not None:
                self._count_value(old, -1)
            self._count_value(code, +1)
            self.truth[code.id] = code
        code_ids = {code.id for code in codes}
        if hidden_for_s > 0:
            shown_at = self._clock() + timedelta(seconds=hidden_for_s)
            self._forget_hidden(code_ids, longer_than=shown_at)
            self._hidden.extend((shown_at, code) for code in codes)
        else:
            self._forget_hidden(code_ids)
            self._timeline.put(codes)

    def remove(self, code_id: UUID) -> None:
        """Makes a code vanish without a trace."""
        self._count_value(self.truth.pop(code_id), -1)
        self._forget_hidden({code_id})
        self._timeline.remove(code_id)

    def readable(self) -> Timeline:
        """The codes as readers find them now."""
        if self._hidden:
            now = self._clock()
            self._timeline.put(code for shown_at, code in self._hidden if shown_at <= now)
            self._hidden = [(shown_at, code) for shown_at, code in self._hidden if shown_at > now]
        return self._timeline

    def has_active(self, voucher_id: UUID, value: str) -> bool:
        """Whether the voucher has an active code of this value."""
        return self._active_values[voucher_id, value] > 0

    def _count_value(self, code: Code, change: int) -> None:
        if code.is_active and code.value is not None:
            self._active_values[code.voucher_id, code.value] += change

    def _forget_hidden(self, code_ids: set[UUID], *, longer_than: datetime = BEGINNING) -> None:
        # A version that waits for longer than a newer one would come out behind it and replace it.
        if self._hidden:
            self._hidden = [
                (shown_at, code)
                for shown_at, code in self._hidden
                if code.id not in code_ids or shown_at <= longer_than
            ]
