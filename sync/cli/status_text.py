"""What `voucher-sync status` prints for people, in lines of a terminal's width."""

import re
from collections.abc import Iterator, Sequence

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.console import Console

from sync.core.plurals import plural
from sync.core.printable import printable
from sync.service.status import words
from sync.service.status.facts import ConnectionStatus, Daemon, Overview
from sync.service.status.notes import bounded
from sync.service.status.order import SLOWEST, by_urgency, furthest_behind
from sync.service.status.verdict import Level, Verdict, is_served, judge, judge_connection
from sync.settings import Settings

LABEL = 18
REFUSED = "refused for good: what waits is tried by itself, these are not before `voucher-sync outbox retry`"
MAX_WIDTH, LEAST_TEXT = 120, 20
MAX_LISTED = 50
MAX_NAME, LEAST_NAME, OTHER_COLUMNS = 30, 10, 56
"""How wide the column of names is: characters of East Asia take two."""
WORDS = re.compile(r"\s*\S+")


def width_of(console: Console) -> int:
    """How wide lines may be: rich's 80 columns where there is no terminal."""
    return min(console.width, MAX_WIDTH)


def as_text(overview: Overview, lease_s: float, width: int) -> list[str]:
    """Lines; of one connection everything, of several a line for each, the most urgent first."""
    return list(map(printable, _lines(overview, lease_s, width)))


def _lines(overview: Overview, lease_s: float, width: int) -> list[str]:
    if not overview.connections:
        told = judge(overview, lease_s)
        first = f"{told.headline}: {told.to_do}."
        return [
            *_wrapped(first, "", width),
            *_wrapped(f"The database is {overview.database}.", "", width),
            *_daemons(overview, width),
        ]
    if len(overview.connections) == 1:
        (one,) = overview.connections
        return [*_one(one, overview, lease_s, width), *_daemons(overview, width)]
    return [*_head(judge(overview, lease_s), width), "", *_many(overview, lease_s, width)]


def _head(verdict: Verdict, width: int) -> Iterator[str]:
    since = f", since {words.instant(verdict.since)}" if verdict.since else ""
    yield from _wrapped(f"{verdict.headline}{since}", "", width)
    if verdict.cause:
        yield from _wrapped(verdict.cause, "  ", width)
    if verdict.to_do:
        yield from _wrapped(f"-> {verdict.to_do}", "  ", width)
    for note in verdict.notes:
        if note.text not in verdict.cause:
            yield from _wrapped(f"! {note.text}: {note.to_do}", "  ", width)


def _many(overview: Overview, lease_s: float, width: int) -> Iterator[str]:
    yield from [*(daemons := list(_daemons(overview, width, with_settings=False))), *([""] if daemons else [])]
    verdicts = {one.name: judge_connection(one, overview, lease_s) for one in overview.connections}
    urgent = by_urgency(overview.connections, verdicts)
    widest = min(max(cell_len(one.name) for one in urgent), MAX_NAME, width - OTHER_COLUMNS)
    column = max(LEAST_NAME, widest)
    yield from _named("connection", _columns("state", "since (UTC)", "last pull", "daemon"), column, width)
    for one in urgent[:MAX_LISTED]:
        yield from _line(one, verdicts[one.name], column, width)
    if len(urgent) > MAX_LISTED:
        yield from _wrapped(f"... and {len(urgent) - MAX_LISTED:,} more, none of them more urgent", "", width)
    if overview.unassigned:
        of_none = words.statuses(overview.unassigned, overview.unassigned_at_least)
        yield from _wrapped(f"of vouchers that no connection knows: {of_none}", "", width)
    if len(urgent) > SLOWEST:
        yield from ["", *_wrapped("furthest behind, since a pull last caught up:", "", width)]
        for one in furthest_behind(urgent):
            told = [f"{words.caught_up(one):<12}", one.owner or ""]
            yield from _named(one.name, told, column, width, indent="  ")
    yield from _wrapped("More of one: voucher-sync status --connection NAME", "", width)


def _line(one: ConnectionStatus, verdict: Verdict, column: int, width: int) -> Iterator[str]:
    """A connection, and below it why it is not well, and what is queued for it."""
    since = f"{verdict.since:%Y-%m-%d %H:%M}" if verdict.since and verdict.level is not Level.OK else ""
    told = _columns(verdict.level.word, since, words.caught_up(one), one.owner or "")
    yield from _named(one.name, told, column, width)
    if verdict.level is not Level.OK:
        yield from _wrapped(verdict.cause or verdict.headline, "    ", width)
    if one.backlog.outbox:
        yield from _wrapped(f"outbox: {words.outbox(one.backlog)}", "    ", width)


def _columns(level: str, since: str, late: str, owner: str) -> list[str]:
    return [f"{level:<9}", f"{since:<16}", f"{late:<12}", owner]


def _named(name: str, told: Sequence[str], column: int, width: int, *, indent: str = "") -> Iterator[str]:
    """What is told of a connection, behind its name; below it, where that is wider than its column.

    So is what a narrow terminal has no room for in that line.
    """
    if cell_len(name) > column:
        yield from (f"{indent}{part}" for part in chop_cells(name, width - len(indent)))
        name = ""
    line, below = f"{indent}{set_cell_size(name, column)}", f"{indent}    "
    for text in told:
        if line.strip() and cell_len(f"{line}  {text}".rstrip()) > width:
            yield line.rstrip()
            *whole, rest = chop_cells(text, width - len(below)) or [""]
            yield from (f"{below}{part}" for part in whole)
            line = f"{below}{rest}"
        else:
            line = f"{line}  {text}"
    if line.strip():
        yield line.rstrip()


def _one(one: ConnectionStatus, overview: Overview, lease_s: float, width: int) -> Iterator[str]:
    verdict = judge_connection(one, overview, lease_s)
    yield from _head(verdict, width)
    yield ""
    facts = {
        "connection": one.name,
        "state": words.state(one),
        "daemon": _heard(one, overview, lease_s),
        "last pull": words.pull(one),
        "complete through": words.complete_through(one.mirror),
        "vouchers": f"{one.mirror.vouchers:,}",
        "codes": words.codes(one.mirror),
        "open windows": f"{one.mirror.open_windows:,}",
        "skipped": plural(one.mirror.skipped, "service or voucher", "services and vouchers"),
        "rejected records": bounded(one.mirror.rejected_records),
        "audit": words.audit(one.mirror),
        "next audit": words.next_audit(one, overview.now)
        + ", by a daemon" * (not overview.alive and not one.paused_at),
        "outbox": words.outbox(one.backlog),
    }
    for label, text in facts.items():
        yield from _row(label, text, width)
    for title, lines in _lists(one, overview).items():
        if lines:
            yield from _wrapped(f"{title}:", "", width)
            for line in lines:
                yield from _wrapped(line, "  ", width)


def _heard(one: ConnectionStatus, overview: Overview, lease_s: float) -> str:
    if one.paused_at:
        return words.none_for(one)
    if one.heartbeat_age_s is None:
        return "never seen"
    state = "alive" if is_served(one, overview, lease_s) else "SILENT"
    owner = f"{one.owner}, " if one.owner else ""
    return f"{owner}{state}, last heard of {words.ago(one.heartbeat_age_s)}"


def _lists(one: ConnectionStatus, overview: Overview) -> dict[str, list[str]]:
    told, now = one.details, overview.now
    reading = [words.reading(told.reading)] if told.reading else []
    return {
        "reading": reading,
        f"waiting{words.part(told.waiting, one.backlog, *words.WAIT_STATUSES)}": [
            words.waiting(wait, now) for wait in told.waiting
        ],
        f"held{words.part(told.held_for, one.backlog, 'held')}": [
            f"{held.count:,}, since {words.instant(held.oldest_at)}: {held.reason}" for held in told.held_for
        ],
        f"{REFUSED}{words.part(told.failed, one.backlog, 'failed')}": [
            words.failures(failed) for failed in told.failed
        ],
        "requests that failed": [words.requests(failed, now) for failed in told.request_failures],
        "request budget in use": [words.share(share) for share in told.budget],
        "left out": [words.left_out(some) for some in (*told.skipped_because, *told.rejected_because)],
        "outages": [words.outage(outage) for outage in told.outages],
        "audits": [f"{words.instant(audit.began_at)}  {words.one_audit(audit)}" for audit in told.audits],
        "last runs that changed something or failed, the newest first": [
            f"{words.instant(run.finished_at)}  {run.kind}: {words.run(run)}" for run in told.last_runs
        ],
    }


def _daemons(overview: Overview, width: int, *, with_settings: bool = True) -> Iterator[str]:
    if len(overview.alive) > 1:
        yield from _wrapped(f"{plural(len(overview.alive), 'daemon')} work on this database.", "", width)
    for daemon in overview.daemons:
        yield from _wrapped(words.daemon(daemon), "", width)
        if with_settings and daemon.is_alive and (settings := _own_settings(daemon)):
            yield from _wrapped(f"its settings beside the defaults: {settings}", "  ", width)


def _own_settings(daemon: Daemon) -> str:
    """Those that are not the defaults."""
    defaults = {name.upper(): field.default for name, field in Settings.model_fields.items()}
    own = {name: value for name, value in daemon.settings.items() if value != defaults.get(name)}
    return ", ".join(f"{name}={value}" for name, value in sorted(own.items()))


def _row(label: str, text: str, width: int) -> list[str]:
    return _filled(text, f"{label:<{LABEL}}", " " * LABEL, max(width, LABEL + LEAST_TEXT))


def _wrapped(text: str, indent: str, width: int) -> list[str]:
    return _filled(text, indent, f"{indent}  ", width)


def _filled(text: str, first: str, following: str, width: int) -> list[str]:
    """Lines of so many cells at most, behind what the first of them begins with and what the following do."""
    lines, line, indent = list[str](), "", first
    for piece in _pieces(text, width - len(following)):
        if line and cell_len(f"{indent}{line}{piece}") > width:
            lines.append(f"{indent}{line}")
            line, indent = "", following
        line += piece if line else piece.lstrip()
    return [*lines, f"{indent}{line}".rstrip()]


def _pieces(text: str, room: int) -> Iterator[str]:
    """Words, with the blanks before them: a command is broken between these alone, so that it can be copied.

    What is written without blanks, as Japanese, is broken where it has to be.
    """
    for word in WORDS.findall(printable(text)):
        is_sentence = cell_len(word) > max(room, len(word))
        yield from chop_cells(word.lstrip(), room) if is_sentence else [word]
