"""What the facts mean: whether it works, since when not, why, and what to do; pure decisions, the most urgent first."""

import math
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import IntEnum

from sync.core.plurals import plural
from sync.fleet.assignment import ENVIRONMENT, STORED
from sync.service.progress import late_after_s
from sync.service.status import remedies, silence, words
from sync.service.status.facts import DEFAULTS, ConnectionStatus, Overview, setting
from sync.service.status.notes import Note, notes_on, notes_on_unassigned

DEFAULT_LEASE_S: float = DEFAULTS["SYNC_LEASE_S"]
CYCLES_WITHIN_S = 25 * 3600.0
"""Where single cycles are all there is, one comes each day: nobody else could tell that they have ended."""
START = "start `voucher-sync run`, or `voucher-sync once`"
ADD = "add one with `voucher-sync connections add`, of which it hears at once"
CHECK = "if it does not stay, see its log and `voucher-sync check`"
UPDATE = "bring voucher-sync to the release that migrated this database where it ran, then "
GAPS = {
    "copy": "the database was restored or copied, and nobody has said that it is the one to work with: nothing is sent",
    "behind": "the database has lost commits: what was queued before is held",
}


class Level(IntEnum):
    """How urgent a verdict is; its name in small letters is what scripts see."""

    OK = 0
    READING = 1
    PAUSED = 2
    ATTENTION = 3
    NOTHING = 4
    DEGRADED = 5
    FAILING = 6

    @property
    def word(self) -> str:
        """For people, beside the colour."""
        return LEVEL_WORDS[self]


LEVEL_WORDS = {
    Level.OK: "working",
    Level.READING: "reading",
    Level.PAUSED: "paused",
    Level.ATTENTION: "attention",
    Level.NOTHING: "not begun",
    Level.DEGRADED: "degraded",
    Level.FAILING: "failing",
}


NO_VOUCHER = "The token has shown no voucher so far, or the first look for them goes on."
REMOVED = "Changes were queued for it since it was removed, and nobody sends them"
REMOVED_TO_DO = (
    "take them back with `voucher-sync outbox cancel`, or add the connection again with `voucher-sync connections add`"
)
MAX_NOTES = 3
"""Of several connections, that are told before the list of these."""
NO_TOKENS = {
    STORED: (
        "No daemon can read its tokens",
        "None of the daemons that run has SYNC_SECRET_KEY, by which the tokens in the database are encrypted",
        "set SYNC_SECRET_KEY_FILE where they run, and start them anew",
    ),
    ENVIRONMENT: (
        "No daemon has its tokens",
        "None of the daemons that run has tokens in its environment",
        "give them to a daemon's environment; if it is not to be mirrored any more, `voucher-sync connections remove "
        "{name}`",
    ),
}
"""By whose tokens a connection has: what is told where no daemon has them."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`headline` says how it is, `cause` why, `since` since when, and `to_do` what somebody can do about it."""

    level: Level
    headline: str
    cause: str = ""
    since: datetime | None = None
    to_do: str = ""
    notes: list[Note] = field(default_factory=list)


def judge(overview: Overview, lease_s: float = DEFAULT_LEASE_S) -> Verdict:
    """The verdict on everything: of several connections, on the most urgent."""
    return judge_all({one.name: judge_connection(one, overview, lease_s) for one in overview.connections}, overview)


def judge_all(verdicts: dict[str, Verdict], overview: Overview) -> Verdict:
    """The same, out of the verdict on each."""
    if not verdicts:
        alive = "A daemon runs, and has found no connection yet" if overview.alive else "No connection was ever used"
        cause = f"{alive}. The database is {overview.database}."
        to_do = ADD if overview.alive else START
        return Verdict(Level.NOTHING, "Nothing has been mirrored yet", cause, to_do=to_do)
    if len(verdicts) == 1:
        return next(iter(verdicts.values()))
    told, of_none = _judge_many(verdicts, overview), list(notes_on_unassigned(overview))
    if of_none and told.level < Level.ATTENTION:
        return Verdict(Level.ATTENTION, f"{told.headline}, and {of_none[0].what}", of_none[0].text, None,
                       of_none[0].to_do, [*of_none, *told.notes])  # fmt: skip
    return replace(told, notes=[*of_none, *told.notes])


def _judge_many(verdicts: dict[str, Verdict], overview: Overview) -> Verdict:
    """Of several connections, as they are by themselves."""
    counts = Counter(verdict.level for verdict in verdicts.values())
    paused = counts.pop(Level.PAUSED, 0)
    if not counts:
        return Verdict(Level.PAUSED, f"All {words.connections(paused)} are paused")
    worst = max(counts)
    if worst is Level.OK:
        of_all = words.connections(len(verdicts))
        rest = f"{len(verdicts) - paused:,} of {of_all} work, the rest is paused" if paused else f"All {of_all} work"
        return Verdict(worst, rest, silence.silent(overview))
    # What stops everything is told once; else one of them may fail while the fleet works on.
    level = Level.DEGRADED if worst is Level.FAILING and counts[worst] < counts.total() else worst
    headline = f"{counts[worst]:,} of {words.connections(len(verdicts))}: {worst.word}"
    told = _told_of({name: verdict for name, verdict in verdicts.items() if verdict.level == worst})
    return replace(told, level=level, headline=headline, notes=list(_notes_of_many(verdicts, told.cause)))


def _told_of(alike: dict[str, Verdict]) -> Verdict:
    """What most of those that are alike have, of the one that has had it for longest."""
    ((most, number),) = Counter(verdict.headline for verdict in alike.values()).most_common(1)
    same = {name: verdict for name, verdict in alike.items() if verdict.headline == most}
    name, first = min(same.items(), key=lambda one: one[1].since.timestamp() if one[1].since else math.inf)
    why = f"{name}: {first.cause or most}"
    if len(alike) == 1:
        return replace(first, cause=why)
    to_do = f"for each of them, as for {name}: {first.to_do}" if name in first.to_do else first.to_do
    how_many = "All" if number == len(alike) else f"{number:,}"
    return replace(first, cause=f"{how_many} of them: {most}; longest {why}", to_do=to_do)


def _notes_of_many(verdicts: dict[str, Verdict], cause: str) -> Iterator[Note]:
    """What of each connection's is not told yet, of the most urgent first: of a kind once, and of how many."""
    by_urgency = sorted(verdicts.items(), key=lambda one: -one[1].level)
    alike = defaultdict[str, list[Note]](list)
    for name, verdict in by_urgency:
        for note in verdict.notes:
            if f"{name}: {note.text}" not in cause:
                alike[note.what].append(replace(note, text=f"{name}: {note.text}"))
    kinds = list(alike.values())
    for notes in kinds[:MAX_NOTES]:
        others = f"; and {plural(len(notes) - 1, 'more connection')}" if len(notes) > 1 else ""
        yield replace(notes[0], text=f"{notes[0].text}{others}")
    if left := sum(map(len, kinds[MAX_NOTES:])):
        yield Note(f"{left:,} more of other connections", "see each of them")


def judge_connection(one: ConnectionStatus, overview: Overview, lease_s: float = DEFAULT_LEASE_S) -> Verdict:
    """The verdict on one connection."""
    notes = list(notes_on(one))
    urgent = _kept_from(one) or _unserved(one, overview, lease_s) or _failing(one, overview)
    if urgent:
        return Verdict(urgent.level, urgent.headline, urgent.cause, urgent.since, urgent.to_do, notes)
    # Of what has caught up before, windows are open for moments whenever a voucher is new.
    is_first = one.caught_up_age_s is None
    if (reading := _reading(one, overview)) and (is_first or not notes):
        return Verdict(reading.level, reading.headline, reading.cause, reading.since, reading.to_do, notes)
    if notes:
        more = f", and {len(notes) - 1} more to look at" if len(notes) > 1 else ""
        headline = f"Working, and {notes[0].what}"
        return Verdict(Level.ATTENTION, headline, f"{notes[0].text}{more}", None, notes[0].to_do, notes)
    if one.heartbeat_age_s is None:
        cause = f"No daemon was ever seen here; the last cycle caught up {words.ago(one.caught_up_age_s)}."
        return Verdict(Level.OK, "Mirrored by single cycles", cause, one.state_since)
    cause = f"Caught up with the API {words.ago(one.caught_up_age_s)}. {silence.silent(overview)}".rstrip()
    return Verdict(Level.OK, "The mirror is up to date", cause, one.state_since)


def is_served(one: ConnectionStatus, overview: Overview, lease_s: float = DEFAULT_LEASE_S) -> bool:
    """Whether a daemon was heard of for a connection within its lease.

    Ahead of the database's clock, as where that was set back, it is no sign of life: the next one would be right.
    """
    given = [float(daemon.settings.get("SYNC_LEASE_S", lease_s)) for daemon in overview.daemons]
    return one.heartbeat_age_s is not None and abs(one.heartbeat_age_s) <= max(given, default=lease_s)


def _kept_from(one: ConnectionStatus) -> Verdict | None:
    """Why nothing is to be done for it."""
    if one.gap:
        to_do = "see what is left with `voucher-sync adopt --show`, then run `voucher-sync adopt`"
        return Verdict(Level.FAILING, "Waiting to be adopted", GAPS[one.gap], one.gap_at, to_do)
    if one.is_removed:
        return Verdict(Level.ATTENTION, "Removed, and changes wait", REMOVED, one.paused_at, REMOVED_TO_DO)
    if one.paused_at:
        cause = f"The reason given: {one.paused_because}" if one.paused_because else "No reason was given"
        resume = f"`voucher-sync connections resume {shlex.quote(one.name)}`"
        to_do = f"nothing, unless it is to work again: {resume}; until then nothing is read or sent for it"
        return Verdict(Level.PAUSED, "Paused", cause, one.paused_at, to_do)
    return None


def _unserved(one: ConnectionStatus, overview: Overview, lease_s: float) -> Verdict | None:
    """Why nobody works for it."""
    may_be_nobodys = one.heartbeat_age_s is None and not one.is_stored
    is_noted = one.owner is not None or bool(overview.alive)
    is_begun_in_vain = is_noted and one.state == "failing" and one.error_kind == "SettingsError"
    if may_be_nobodys or is_begun_in_vain or is_served(one, overview, lease_s):
        return None
    heard = None if one.heartbeat_age_s is None else overview.now - timedelta(seconds=one.heartbeat_age_s)
    kind = STORED if one.is_stored else ENVIRONMENT
    if overview.alive and not any(each.takes is None or kind in each.takes for each in overview.alive):
        headline, cause, to_do = NO_TOKENS[kind]
        return Verdict(Level.FAILING, headline, cause, heard, to_do.format(name=shlex.quote(one.name)))
    if heard is None:
        return None
    # Where nothing can be written, it cannot be noted either that something fails: all the rest is as old as that.
    if overview.alive:
        cause = "Daemons run, and none of them has noted lately that it works for this connection"
        to_do = "see the daemons' logs; `voucher-sync check` finds what keeps them from it"
        return Verdict(Level.FAILING, "No daemon works for it", cause, heard, to_do)
    cause = "The daemon is silent: it was stopped, has died, hangs, or cannot write to this database"
    update = UPDATE if overview.left_behind else ""
    cause, to_do = f"{cause}. {silence.left_behind(overview)}".rstrip(". "), f"{update}{START}; {CHECK}"
    return Verdict(Level.FAILING, "No daemon is running", cause, heard, to_do)


def _failing(one: ConnectionStatus, overview: Overview) -> Verdict | None:
    """Why it fails, or has fallen behind without a word."""
    late_s = late_after_s(_pull_interval_s(overview))
    is_late = one.caught_up_age_s is not None and one.caught_up_age_s > late_s
    if one.state == "failing":
        to_do = remedies.of(one.error_kind, one.name if one.is_stored else None)
        headline = remedies.headline(one.error_kind)
        if one.caught_up_age_s is None or is_late:
            return Verdict(Level.FAILING, headline, one.error or "", one.state_since, to_do)
        pulled_at = overview.now - timedelta(seconds=one.caught_up_age_s)
        goes_on = ", while pulls still work" if one.state_since is None or pulled_at > one.state_since else ""
        return Verdict(Level.DEGRADED, f"{headline}{goes_on}", one.error or "", one.state_since, to_do)
    since = overview.now - timedelta(seconds=one.caught_up_age_s or 0)
    if one.heartbeat_age_s is None and (one.caught_up_age_s or 0) > CYCLES_WITHIN_S:
        cause = f"No cycle has caught up for {words.lasting(one.caught_up_age_s)}, and no daemon was ever seen here"
        return Verdict(
            Level.DEGRADED, "Fallen behind", cause, since, f"see why `voucher-sync once` does not run; {START}"
        )
    if is_late and one.heartbeat_age_s is not None and not one.mirror.open_windows:
        cause = f"No pull has caught up for {words.lasting(one.caught_up_age_s)}, and no error was noted"
        return Verdict(Level.DEGRADED, "Fallen behind", cause, since, "see the daemon's log; restart it if this stays")
    return None


def _reading(one: ConnectionStatus, overview: Overview) -> Verdict | None:
    """What is being read, where the mirror does not hold everything yet."""
    if one.state == "unknown":
        headline, to_do = ("Just begun", "") if overview.alive else ("Never finished a run", START)
        return Verdict(Level.READING, headline, "no run has told yet how it ended", None, to_do)
    left = words.windows_left(one)
    if one.caught_up_age_s is None and not one.mirror.vouchers:
        return Verdict(Level.READING, "No voucher is known yet", NO_VOUCHER, one.state_since)
    if one.caught_up_age_s is None:
        cause = f"{left}; not all codes are here yet"
        return Verdict(Level.READING, "Working on the first backfill", cause, one.state_since)
    if one.mirror.open_windows:
        return Verdict(Level.READING, "Working, and reading more of the past", left, one.state_since)
    return None


def _pull_interval_s(overview: Overview) -> float:
    given = [float(setting(one.settings, "SYNC_PULL_INTERVAL_S")) for one in overview.alive]
    return max(given, default=DEFAULTS["SYNC_PULL_INTERVAL_S"])
