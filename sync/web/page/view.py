"""What the templates show, out of facts: rows, words and the order of things; a pure step between the two."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import urlencode

from sync.core.errors import DatabaseError
from sync.service.status import remedies, words
from sync.service.status.detail_facts import Details
from sync.service.status.facts import ConnectionStatus, Daemon, Overview
from sync.service.status.order import SLOWEST, by_urgency, furthest_behind
from sync.service.status.series import Series, path
from sync.service.status.verdict import Level, Verdict, judge_all, judge_connection
from sync.web.page.tiles import Tile, tiles_of_all, tiles_of_one

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

    `now`: when the facts were so; `told_at`: later than that, where there are none of just now. `of_none`: the changes
    whose voucher none of several connections knows.
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
    of_none: str = ""
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
    connection that is looked at."""
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
        tiles=tiles_of_one(one, overview) if one else tiles_of_all(overview, verdicts),
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
        of_none=words.statuses(overview.unassigned, overview.unassigned_at_least),
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
