"""The figures at the head of the page, out of facts; pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sync.core.plurals import plural
from sync.service.status import words
from sync.service.status.facts import Backlog, ConnectionStatus, MirrorState, Overview, setting
from sync.service.status.verdict import Level, Verdict


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure: `value` large, `detail` small. `level`: where it asks for attention. `series` names its sparkline."""

    label: str
    value: str
    detail: str
    level: str = ""
    series: str = ""


def tiles_of_one(one: ConnectionStatus, overview: Overview) -> list[Tile]:
    """Of the connection that is looked at."""
    backlog, waits = one.backlog, words.WAIT_STATUSES
    oldest = f"the oldest for {words.lasting(backlog.oldest_waiting_age_s)}"
    return [
        Tile("Last success", words.caught_up(one), _through(one, overview.now), series="lag"),
        _codes(one.mirror),
        Tile("Waiting", words.queued(backlog, *waits), oldest if backlog.count(*waits) else "the outbox is empty",
             series="waiting"),
        _held_or_refused(backlog),
        _requests(one, overview),
        _audit(one, overview.now),
    ]  # fmt: skip


def tiles_of_all(overview: Overview, verdicts: Mapping[str, Verdict]) -> list[Tile]:
    """Of several connections; of none there is nothing to tell."""
    if not overview.connections:
        return []
    backlog = _of_all(overview)
    return [
        _connections(overview, verdicts),
        _furthest_behind(overview),
        Tile("Waiting", words.queued(backlog, *words.WAIT_STATUSES), "changes in the outbox"),
        _held_or_refused(backlog),
        _daemons(overview),
    ]


def _furthest_behind(overview: Overview) -> Tile:
    """Of those that are at work; who has never caught up has no age, and is counted beside it."""
    ages_s = [one.caught_up_age_s for one in overview.connections if one.paused_at is None]
    known_s = [age_s for age_s in ages_s if age_s is not None]
    never = f", and {len(ages_s) - len(known_s):,} not yet" if len(known_s) < len(ages_s) else ""
    if not known_s:
        return Tile("Furthest behind", "not yet" if ages_s else "none", words.NO_PULL if ages_s else "none is at work")
    return Tile("Furthest behind", words.lasting(max(known_s)), f"since its last pull that caught up{never}")


def _of_all(overview: Overview) -> Backlog:
    """What waits for any connection, or for none."""
    outbox, at_least = Counter(overview.unassigned), set(overview.unassigned_at_least)
    for one in overview.connections:
        outbox.update(one.backlog.outbox)
        at_least.update(one.backlog.outbox_at_least)
    return Backlog(outbox, list(at_least))


def _through(one: ConnectionStatus, now: datetime) -> str:
    if one.has_failed_since:
        return f"a request failed {words.ago(one.failed_request_age_s)}"
    if one.mirror.complete_through is not None:
        return f"complete through {words.moment(one.mirror.complete_through, now)}"
    if one.caught_up_age_s is None:
        return words.NO_PULL
    return "a voucher that is new is being read" if one.mirror.vouchers else words.NO_VOUCHER


def _codes(mirror: MirrorState) -> Tile:
    number = "unknown" if mirror.voucher_codes is None else words.codes(mirror)
    return Tile("Codes", number, f"of {plural(mirror.vouchers, 'voucher')}", series="codes")


def _held_or_refused(backlog: Backlog) -> Tile:
    detail = f"{words.queued(backlog, 'held')} held, {words.queued(backlog, 'failed')} refused"
    level = "attention" if backlog.count("held", "failed") else ""
    return Tile("Held or refused", words.queued(backlog, "held", "failed"), detail, level)


def _requests(one: ConnectionStatus, overview: Overview) -> Tile:
    settings = overview.alive[0].settings if overview.alive else {}
    limit = int(setting(settings, "SYNC_RATE_LIMIT_REQUESTS"))
    window_s = float(setting(settings, "SYNC_RATE_LIMIT_WINDOW_S"))
    # What a process may begin counts beside calls that will have left the window by then.
    calls = min(sum(share.calls for share in one.details.budget), limit)
    return Tile("Requests used", f"{calls:,} of {limit:,}", f"in {window_s:g} s, all processes", series="requests")


def _audit(one: ConnectionStatus, now: datetime) -> Tile:
    mirror, following = one.mirror, words.next_audit(one, now)
    level = "attention" if mirror.audit_drift or mirror.audit_braked else ""
    if mirror.audited_since:
        last = f"last {words.since(mirror.audited_since, now)}"
    elif level or one.details.audits:
        last = "not all vouchers yet"
    else:
        return Tile("Audit", "never audited", following if one.paused_at else f"the first {following}")
    following = following if one.paused_at else f"next {following}"
    found = "changed nothing" if mirror.audit_braked else f"{mirror.audit_drift or 0:,} drifted"
    mended = f"{words.mended(mirror)}, " if mirror.audit_drift else ""
    return Tile("Audit", found, f"{mended}{last}, {following}", level)


def _connections(overview: Overview, verdicts: Mapping[str, Verdict]) -> Tile:
    number = len(overview.connections)
    failing = sum(one.level >= Level.DEGRADED for one in verdicts.values())
    paused = sum(one.paused_at is not None and not one.is_removed for one in overview.connections)
    beside = f", {paused:,} paused" if paused else ""
    if failing:
        return Tile("Connections", f"{failing:,} of {number:,}", f"fail or are degraded{beside}", "failing")
    return Tile("Connections", f"{number:,}", f"none fails{beside}")


def _daemons(overview: Overview) -> Tile:
    alive = len(overview.alive)
    silent = len(overview.daemons) - alive
    gone = f", {silent:,} silent" if silent else ""
    return Tile("Daemons", f"{alive:,}", f"alive{gone}" if alive else "none is alive", "" if alive else "failing")
