"""The words for facts: `status` and the page say the same."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sync.core.plurals import plural
from sync.core.printable import printable
from sync.outbox.rules import HeldBecause
from sync.service.runs import Run
from sync.service.status.detail_facts import (
    Audit,
    BackfillProgress,
    FailedGroup,
    HeldGroup,
    LeftOut,
    Outage,
    RequestFailure,
    Share,
    WaitingGroup,
)
from sync.service.status.facts import Backlog, ConnectionStatus, Daemon, MirrorState

UNITS = {"days": 86_400, "hours": 3_600, "minutes": 60}
WAIT_STATUSES = ("pending", "sending", "uncertain")
NO_VOUCHER = "no voucher is known yet"
NO_PULL = "no pull has caught up so far"
TOLD_OF_NONE = {"drift"}
"""Counts that are told of a run even when they are 0: that an audit found no drift is what it was for."""

HELD_BECAUSE = {
    HeldBecause.TOO_MANY_DELETES.value: "too many deletes at once",
    HeldBecause.BEFORE_A_GAP.value: "queued before the database was restored or copied",
}


def lasting(seconds: float | None) -> str:
    """A time, in the largest unit that still tells it well."""
    if seconds is None:
        return "unknown"
    for unit, length_s in UNITS.items():
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:,.0f} {unit}"
    return f"{max(seconds, 0):,.0f} s"


def ago(seconds: float | None) -> str:
    """A time since."""
    if seconds is None:
        return "never"
    if seconds < -1:
        return f"{lasting(-seconds)} ahead (the database's clock was set back)"
    return f"{lasting(seconds)} ago"


def caught_up(one: ConnectionStatus) -> str:
    """How long ago a pull last left nothing to read."""
    return "not yet" if one.caught_up_age_s is None else ago(one.caught_up_age_s)


def since(instant: datetime | None, now: datetime) -> str:
    """How long ago an instant was."""
    return ago(None if instant is None else (now - instant).total_seconds())


def until(at: datetime | None, now: datetime) -> str:
    """How long it is to an instant."""
    if at is None:
        return "unknown"
    seconds = (at - now).total_seconds()
    return f"in {lasting(seconds)}" if seconds > 0 else "now"


def instant(value: datetime | None) -> str:
    """An instant, to the second."""
    return "unknown" if value is None else f"{value:%Y-%m-%d %H:%M:%S} UTC"


def count(number: int, is_at_least: bool = False) -> str:
    """A number, which may be a bound."""
    return f"more than {number:,}" if is_at_least else f"{number:,}"


def changes(number: int, is_at_least: bool = False) -> str:
    """A number of changes."""
    return f"{count(number, is_at_least)} {'change' if number == 1 else 'changes'}"


def queued(backlog: Backlog, *statuses: str) -> str:
    """How many changes are in these statuses."""
    return count(backlog.count(*statuses), backlog.has_more(*statuses))


def codes(mirror: MirrorState) -> str:
    """How many are mirrored."""
    if mirror.voucher_codes is None:
        return "an unknown number of"
    return f"about {mirror.voucher_codes:,}" if mirror.voucher_codes_estimated else f"{mirror.voucher_codes:,}"


def held_because(counts: Mapping[str, int]) -> str:
    """Why changes are held, what holds the most first."""
    return ", ".join(HELD_BECAUSE.get(why, why) for why in sorted(counts, key=lambda why: -counts[why]))


def complete_through(mirror: MirrorState) -> str:
    """Through which instant everything is mirrored."""
    if mirror.complete_through is None:
        return "not all vouchers were read to their end yet" if mirror.vouchers else NO_VOUCHER
    return f"{instant(mirror.complete_through)} by the API's clock: every change before it is mirrored"


def windows_left(one: ConnectionStatus) -> str:
    """How much of a backfill is left, and until when as far as that is known."""
    reading = one.details.reading
    if not one.mirror.open_windows:
        return "no window is open: not begun, or just about to end"
    number, planned = one.mirror.open_windows, reading.planned if reading else None
    # It may be one of several: "1 of 5 windows is".
    windows = plural(planned or number, "window")
    of_planned = f"{number:,} of {windows}" if planned else windows
    left = f"{of_planned} {'is' if number == 1 else 'are'} left to read"
    return f"{left}, {done_in(reading)}" if reading and reading.done_in_s is not None else left


def connections(number: int) -> str:
    """A number of connections."""
    return plural(number, "connection")


def moment(value: datetime | None, now: datetime) -> str:
    """An instant, without its day where that is today's."""
    if value is None or value.date() != now.date():
        return instant(value)
    return f"{value:%H:%M:%S} UTC"


def done_in(reading: BackfillProgress) -> str:
    """When what is open will have been read."""
    return "too early to tell when" if reading.done_in_s is None else f"done in about {lasting(reading.done_in_s)}"


def reading(one: BackfillProgress) -> str:
    """What is being read."""
    of = _named(one.names, one.vouchers) if one.names else "vouchers"
    return f"{of}: changes from {one.start:%Y-%m-%d} to {one.end:%Y-%m-%d}"


def outbox(backlog: Backlog) -> str:
    """What is queued, by status."""
    if not backlog.outbox:
        return "nothing waits"
    return statuses(backlog.outbox, backlog.outbox_at_least)


def statuses(counts: Mapping[str, int], at_least: Collection[str]) -> str:
    """How many of each status; of those in `at_least` there are more."""
    return ", ".join(f"{count(number, status in at_least)} {status}" for status, number in sorted(counts.items()))


def state(one: ConnectionStatus) -> str:
    """How it stands, and since when."""
    if one.paused_at:
        return f"{'removed' if one.is_removed else 'paused'} since {instant(one.paused_at)}"
    return one.state if one.state_since is None else f"{one.state} since {instant(one.state_since)}"


def pull(one: ConnectionStatus) -> str:
    """When a pull last left nothing to read."""
    success = "none has caught up yet" if one.caught_up_age_s is None else f"caught up {ago(one.caught_up_age_s)}"
    return f"{success}; a request failed {ago(one.failed_request_age_s)}" if one.has_failed_since else success


def mended(mirror: MirrorState) -> str:
    """How many of the codes that had drifted an audit has mended."""
    drift, repaired = mirror.audit_drift or 0, min(mirror.audit_repaired, mirror.audit_drift or 0)
    if repaired == drift:
        return "all of them are mended"
    return f"only {repaired:,} of them mended" if repaired else "none of them is mended"


def audit(mirror: MirrorState) -> str:
    """What the last audits found."""
    if mirror.audit_braked:
        return f"BRAKED: {mirror.audit_braked}"
    if mirror.audited_since is None:
        return "not every voucher was audited yet" if mirror.vouchers else NO_VOUCHER
    found = f"all since {instant(mirror.audited_since)}, {plural(mirror.audit_drift or 0, 'code')} had drifted"
    return f"{found}, and {mended(mirror)}" if mirror.audit_drift else found


def none_for(one: ConnectionStatus) -> str:
    """Of what there is none for a connection that nobody works for on purpose."""
    return f"none {'since it was removed' if one.is_removed else 'while it is paused'}"


def next_audit(one: ConnectionStatus, now: datetime) -> str:
    """How long it is to the next audit, or what has to happen first."""
    if one.paused_at:
        return none_for(one)
    return until(one.details.next_audit_at, now) if one.details.next_audit_at else "once a daemon runs"


def one_audit(one: Audit) -> str:
    """How one audit went."""
    if one.is_running:
        return "under way"
    if one.finished_at is None:
        return "left by its process; another goes on with it"
    if one.braked:
        return f"changed nothing: {one.braked}"
    found = (
        "its result was not noted" if one.drift is None else f"{one.drift:,} had drifted, {one.repaired or 0:,} mended"
    )
    return f"{found}, in {lasting((one.finished_at - one.began_at).total_seconds())}"


def run(one: Run) -> str:
    """What a run did."""
    told = {name: number for name, number in one.counts.items() if number or name in TOLD_OF_NONE}
    counts = ", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in told.items())
    error = one.error and f"FAILED: {one.error}"
    return "; ".join(part for part in (counts, f"{one.lasted_s:,.1f} s", error) if part)


def share(one: Share) -> str:
    """Whose calls they are."""
    who = f"daemon {one.daemon}" if one.daemon else "another process, as a command"
    return f"{one.calls:,} by {who}{', which waits for more' if one.is_waiting else ''}"


def part(groups: Sequence[WaitingGroup | HeldGroup | FailedGroup], backlog: Backlog, *statuses: str) -> str:
    """How many of the changes in these statuses are told by reason, where that is not all of them."""
    told = sum(group.count for group in groups)
    return f", {told:,} of {queued(backlog, *statuses)} by reason" * (told < backlog.count(*statuses))


def waiting(one: WaitingGroup, now: datetime) -> str:
    """Changes that wait, and why."""
    following = f", the next {until(one.next_at, now)}" if one.next_at else ""
    return f"{one.count:,}, the oldest queued {since(one.oldest_at, now)}{following}: {one.why}"


def failures(one: FailedGroup) -> str:
    """Changes that were refused, with the API's words."""
    request = f" [Request-Id {one.request_id}]" if one.request_id else ""
    return f"{one.count:,}, the last {instant(one.last_at)}, change {one.row_id}{request}: {one.reason}"


def requests(one: RequestFailure, now: datetime) -> str:
    """Calls that failed."""
    request = f" [Request-Id {one.request_id}]" if one.request_id else ""
    return f"{one.operation}: {one.problem}, {plural(one.count, 'time')}, the last {since(one.last_at, now)}{request}"


def left_out(one: LeftOut) -> str:
    """What is not read or stored, and why."""
    return f"{left_out_names(one)}: {one.reason}"


def left_out_names(one: LeftOut) -> str:
    """What is not read or stored."""
    names = f" ({_named(one.names, one.count)})" if one.names else ""
    # Resources of the API have a plural already.
    what = f"{one.count:,} {one.kind}" if one.kind.endswith("s") else plural(one.count, one.kind)
    return f"{what}{names}"


def _named(names: Sequence[str], of: int) -> str:
    """The names of some of so many."""
    return ", ".join(map(printable, names)) + " ..." * (of > len(names))


def outage(one: Outage) -> str:
    """From when to when something failed."""
    ended = f"lasted {lasting((one.ended_at - one.began_at).total_seconds())}" if one.ended_at else "goes on"
    return f"{instant(one.began_at)}, {ended}: {one.error}"


def daemon(one: Daemon) -> str:
    """A process, and whether it is alive."""
    state = "alive" if one.is_alive else "SILENT"
    works = f"works for {connections(one.connections)}; " if one.is_alive else ""
    is_what = f"voucher-sync {one.version}, schema {one.revision}, started {instant(one.started_at)}"
    return f"daemon {one.name}: {state}, last heard of {ago(one.heartbeat_age_s)}; {works}{is_what}"
