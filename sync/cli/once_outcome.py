"""What `voucher-sync once` did: of one connection, and of many."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sync.core.errors import VoucherSyncError
from sync.core.plurals import plural
from sync.mirror.discover import DiscoverReport
from sync.mirror.pull_report import PullReport
from sync.outbox.completer import PushReport

MAX_SHOWN = 50
"""Connections that each have a line of their own."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one cycle did."""

    discovered: DiscoverReport | None
    pulled: PullReport | None
    pushed: PushReport
    errors: list[VoucherSyncError]

    @property
    def is_complete(self) -> bool:
        """Whether the mirror is caught up, and everything that was due is pushed."""
        return self._is_caught_up and not self.pushed.errors

    @property
    def _is_caught_up(self) -> bool:
        return self.discovered is not None and self.pulled is not None and self.pulled.caught_up is not None

    def summary(self) -> dict[str, Any]:
        """Counts for scripts."""
        return {
            "ok": self.is_complete,
            "discovered": _counts(self.discovered),
            "pulled": _counts(self.pulled),
            "pushed": {name: value for name, value in asdict(self.pushed).items() if isinstance(value, int)},
            "errors": [str(error) for error in self.errors],
        }

    def sentence(self) -> str:
        """Counts for people."""
        if self.pulled is None or self.discovered is None:
            return f"Nothing was pulled.{self._rejected()}{self._pushed()}"
        windows = f"{self.pulled.windows_done:,} of {plural(self.pulled.windows_planned, 'window')}"
        return (
            f"{plural(self.discovered.vouchers, 'voucher')}, {windows}, {plural(self.pulled.codes, 'code')} read, "
            f"{plural(self.pulled.written, 'row')} written{'' if self._is_caught_up else '; not caught up'}."
            f"{self._rejected()}{self._pushed()}"
        )

    def _rejected(self) -> str:
        number = sum(report.rejected for report in (self.discovered, self.pulled) if report)
        return f" New records that cannot be stored: {number:,}; see sync.rejected_records." if number else ""

    def _pushed(self) -> str:
        pushed, refused = self.pushed, ""
        if pushed.refused:
            reason = "something on the outbox's table refuses to have changed"
            refused = f" Changes that {reason}: {pushed.refused:,}; their last_error says more."
        if not (pushed.done or pushed.failed or pushed.held):
            return refused
        held = f", {pushed.held:,} held" if pushed.held else ""
        return f" Pushed: {plural(pushed.done, 'change')} done, {pushed.failed:,} failed{held}.{refused}"


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What the cycles of many connections did, and why others could not begin, by name."""

    done: Mapping[str, Outcome]
    unopened: Mapping[str, VoucherSyncError]

    @property
    def is_complete(self) -> bool:
        """Whether each of them is."""
        return not self.unopened and all(one.is_complete for one in self.done.values())

    @property
    def errors(self) -> list[str]:
        """What went wrong, with the connection's name."""
        met = [f"connection {name}: {error}" for name, one in self.done.items() for error in one.errors]
        return [*met, *(str(error) for error in self.unopened.values())]

    def summary(self) -> dict[str, Any]:
        """Counts for scripts, of all together; `connections` says which succeeded."""
        each = [one.summary() for one in self.done.values()]
        return {
            "ok": self.is_complete,
            **{part: _sum(one[part] for one in each) for part in ("discovered", "pulled", "pushed")},
            "errors": self.errors,
            "connections": {name: one.is_complete for name, one in self.done.items()}
            | dict.fromkeys(self.unopened, False),
        }

    def sentence(self) -> str:
        """A line for each connection, those that did not succeed first, and one for all."""
        in_order = sorted(self.done.items(), key=lambda one: (one[1].is_complete, one[0]))
        lines = [f"{name}: {one.sentence()}" for name, one in in_order[:MAX_SHOWN]]
        if len(in_order) > MAX_SHOWN:
            lines.append(f"... and {plural(len(in_order) - MAX_SHOWN, 'more connection')}; --json tells of them all")
        well = sum(one.is_complete for one in self.done.values())
        return "\n".join(
            [*lines, f"{well:,} of {plural(len(self.done) + len(self.unopened), 'connection')} succeeded."]
        )


def _sum(parts: Iterable[Mapping[str, int] | None]) -> dict[str, int] | None:
    """Counts by name, of those parts that there are; None where there is none."""
    found = [part for part in parts if part is not None]
    total = Counter[str]()
    for part in found:
        total.update(part)
    return {name: total[name] for part in found for name in part} or None


def _counts(report: DiscoverReport | PullReport | None) -> dict[str, int] | None:
    if report is None:
        return None
    counts = {name: value for name, value in asdict(report).items() if isinstance(value, int | bool)}
    return {**counts, "refused": len(report.refused)}
