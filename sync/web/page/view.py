"""What the templates show, out of facts: rows, words and the order of things; a pure step between the two."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import urlencode

from sync.core.errors import DatabaseError
from sync.core.plurals import plural
from sync.service.status import remedies, words
from sync.service.status.detail_facts import Details
from sync.service.status.facts import ConnectionStatus, Daemon, Overview
from sync.service.status.order import SLOWEST, by_urgency, furthest_behind
from sync.service.status.series import Series, path
from sync.service.status.verdict import Level, Verdict, judge_all, judge_connection

ROWS_OF_A_PAGE = 50
NOT_READ = "The database cannot be read"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is looked at: a connection by its name, or a page of all, or of those whose name holds `find`, or which are
    in the state of that word.
    """

    name: str | None = None
    find: str = ""
    page: int = 1

    def query(self, page: int | None = None) -> str:
        """As a URL says it, behind its question mark; of another page, if one is given."""
        number = self.page if page is None else page
        given = {"connection": self.name, "find": self.find, "page": number if number > 1 else None}
        return urlencode({name: value for name, value in given.items() if value})


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure: `value` large, `detail` small. `level`: where it asks for attention. `series` names its sparkline."""

    label: str
    value: str
    detail: str
    level: str = ""
    series: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One connection among many; `owner`: the daemon that works for it."""

    name: str
    verdict: Verdict
    lag: str
    owner: str
    outbox: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the facts are not of just now, as it is `at` this moment, and for how long already."""

    error: DatabaseError
    at: datetime
    lasts_s: float


@dataclass(frozen=True, slots=True)
class View:
    """All that a page shows. `one` and `details` are of the connection that is looked at, if it is one.

    `now`: when the facts were so; `told_at`: later than that, where there are none of just now.
    """

    now: datetime
    told_at: datetime
    asked: Asked
    verdict: Verdict
    tiles: list[Tile]
    one: ConnectionStatus | None
    details: Details
    lines: list[Line]
    slowest: list[Line]
    counts: list[tuple[str, int]]
    page: int
    pages: int
    daemons: list[Daemon]
    own_settings: dict[str, str]
    database: str
    revision: str
    is_stale: bool = False
    sparklines: dict[str, str] = field(default_factory=dict)


def look_at(overview: Overview, name: str | None) -> ConnectionStatus | None:
    """The connection that is looked at: the named one, or the only one."""
    if name is None and len(overview.connections) == 1:
        return overview.connections[0]
    return next((one for one in overview.connections if one.name == name), None)


def make_view(
    overview: Overview,
    asked: Asked,
    *,
    lease_s: float,
    settings: dict[str, str],
    trouble: Trouble | None = None,
    day: Series | None = None,
) -> View:
    """What is shown of what is asked for; `trouble`: why the facts are not of just now; `day`: the last day of the
    connection that is looked at.
    """
    one = look_at(overview, asked.name)
    verdicts = {each.name: judge_connection(each, overview, lease_s) for each in overview.connections}
    verdict = verdicts[one.name] if one else judge_all(verdicts, overview)
    lines = [] if one else _lines(by_urgency(overview.connections, verdicts), verdicts)
    slowest = _lines(furthest_behind(overview.connections), verdicts) if len(lines) > SLOWEST else []
    found = [line for line in lines if _is_found(line, asked.find)]
    pages = max(1, -(-len(found) // ROWS_OF_A_PAGE))
    page = min(max(1, asked.page), pages)
    return View(
        now=overview.now,
        told_at=trouble.at if trouble else overview.now,
        asked=asked,
        verdict=_away(trouble) if trouble else verdict,
        tiles=_tiles_of(one, overview) if one else _tiles(overview, verdicts),
        one=one,
        details=one.details if one else Details(),
        slowest=[] if asked.find else slowest,
        lines=found[(page - 1) * ROWS_OF_A_PAGE : page * ROWS_OF_A_PAGE],
        counts=_counts(lines),
        page=page,
        pages=pages,
        daemons=overview.daemons,
        own_settings=settings,
        database=overview.database,
        revision=overview.revision,
        is_stale=trouble is not None,
        sparklines={name: path(values) for name, values in day.lines.items()} if day else {},
    )


def _away(trouble: Trouble) -> Verdict:
    kind, since = type(trouble.error).__name__, trouble.at - timedelta(seconds=trouble.lasts_s)
    to_do = "`voucher-sync check` looks at it from here; all goes on by itself once it answers"
    return Verdict(Level.FAILING, remedies.HEADLINES.get(kind, NOT_READ), str(trouble.error), since, to_do)


def _lines(connections: Sequence[ConnectionStatus], verdicts: dict[str, Verdict]) -> list[Line]:
    return [
        Line(
            one.name,
            verdicts[one.name],
            words.caught_up(one),
            one.owner or "",
            words.outbox(one.backlog) if one.backlog.outbox else "",
        )
        for one in connections
    ]


def _is_found(line: Line, find: str) -> bool:
    wanted = find.casefold()  # a phone begins whatever is typed with a capital
    return wanted in line.name.casefold() or wanted == line.verdict.level.word


def _counts(lines: Sequence[Line]) -> list[tuple[str, int]]:
    counted = Counter(line.verdict.level for line in lines)
    return [(level.word, counted[level]) for level in sorted(counted, reverse=True)]


def _tiles_of(one: ConnectionStatus, overview: Overview) -> list[Tile]:
    waiting = sum(one.backlog.outbox.get(status, 0) for status in words.WAIT_STATUSES)
    is_more = bool(set(one.backlog.outbox_at_least) & set(words.WAIT_STATUSES))
    oldest = f"the oldest for {words.lasting(one.backlog.oldest_waiting_age_s)}" if waiting else "the outbox is empty"
    held, failed = one.backlog.outbox.get("held", 0), one.backlog.outbox.get("failed", 0)
    calls, limit, window_s = _budget(one.details, overview)
    through = _through(one, overview)
    number = "unknown" if one.mirror.voucher_codes is None else words.codes(one.mirror)
    is_begun = bool(one.mirror.audited_since or one.mirror.audit_drift or one.mirror.audit_braked or one.details.audits)
    found = "changed nothing" if one.mirror.audit_braked else f"{one.mirror.audit_drift or 0:,} drifted"
    drift = found if is_begun else "never audited"
    mended = f"{words.mended(one.mirror)}, " if one.mirror.audit_drift else ""
    last = (
        f"last {words.since(one.mirror.audited_since, overview.now)}, next" if one.mirror.audited_since else "the first"
    )
    last = "not all vouchers yet, next" if is_begun and not one.mirror.audited_since else last
    following = words.next_audit(one, overview.now)
    return [
        Tile("Last success", words.caught_up(one), through, series="lag"),
        Tile("Codes", number, f"of {plural(one.mirror.vouchers, 'voucher')}", series="codes"),
        Tile("Waiting", words.count(waiting, is_more), oldest, series="waiting"),
        _held_or_refused(held, failed, one.backlog.outbox_at_least),
        Tile("Requests used", f"{calls:,} of {limit:,}", f"in {window_s:g} s, all processes", series="requests"),
        Tile("Audit", drift, f"{mended}{last} {following}",
             "attention" if one.mirror.audit_drift or one.mirror.audit_braked else ""),
    ]  # fmt: skip


def _held_or_refused(held: int, failed: int, at_least: Collection[str]) -> Tile:
    are_more = [status in at_least for status in ("held", "failed")]
    detail = f"{words.count(held, are_more[0])} held, {words.count(failed, are_more[1])} refused"
    level = "attention" if held + failed else ""
    return Tile("Held or refused", words.count(held + failed, any(are_more)), detail, level)


def _through(one: ConnectionStatus, overview: Overview) -> str:
    if one.has_failed_since:
        return f"a request failed {words.ago(one.failed_request_age_s)}"
    if one.mirror.complete_through is not None:
        return f"complete through {words.moment(one.mirror.complete_through, overview.now)}"
    if one.caught_up_age_s is None:
        return "no pull has caught up so far"
    return "a voucher that is new is being read" if one.mirror.vouchers else words.NO_VOUCHER


def _budget(details: Details, overview: Overview) -> tuple[int, int, float]:
    settings = overview.alive[0].settings if overview.alive else {}
    limit, window_s = settings.get("SYNC_RATE_LIMIT_REQUESTS", 200), settings.get("SYNC_RATE_LIMIT_WINDOW_S", 30.0)
    # What a process may begin counts beside calls that will have left the window by then.
    return min(sum(share.calls for share in details.budget), int(limit)), int(limit), float(window_s)


def _tiles(overview: Overview, verdicts: dict[str, Verdict]) -> list[Tile]:
    all_ = overview.connections
    if not all_:
        return []
    changes = [*(one.backlog.outbox for one in all_), overview.unassigned]
    at_least = {status for one in all_ for status in one.backlog.outbox_at_least}
    waiting = sum(one.get(status, 0) for one in changes for status in words.WAIT_STATUSES)
    held, failed = (sum(one.get(status, 0) for one in changes) for status in ("held", "failed"))
    failing = sum(one.level >= Level.DEGRADED for one in verdicts.values())
    paused = sum(one.paused_at is not None for one in all_)
    beside = f", {paused:,} paused" if paused else ""
    slowest = max(
        (one.caught_up_age_s for one in furthest_behind(all_) if one.caught_up_age_s is not None), default=None
    )
    alive, silent = len(overview.alive), len(overview.daemons) - len(overview.alive)
    gone = f", {silent:,} silent" if silent else ""
    return [
        Tile("Connections", f"{failing:,} of {len(all_):,}", f"fail or are degraded{beside}", "failing")
        if failing
        else Tile("Connections", f"{len(all_):,}", f"none fails{beside}"),
        Tile("Furthest behind", words.lasting(slowest), "since its last pull that caught up"),
        Tile("Waiting", words.count(waiting, not at_least.isdisjoint(words.WAIT_STATUSES)), "changes in the outbox"),
        _held_or_refused(held, failed, at_least),
        Tile("Daemons", f"{alive:,}", f"alive{gone}" if alive else "none is alive", "" if alive else "failing"),
    ]
