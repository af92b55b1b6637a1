"""What somebody is told of without asking, and what to do about it: pure decisions."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from sync.core.plurals import plural
from sync.outbox.rules import HeldBecause, Status
from sync.service.status import words
from sync.service.status.facts import ConnectionStatus
from sync.service.status.notes import bounded

LASTS_S = 30.0
"""A trouble that may pass by itself is told once it has lasted so long: a call that fails is tried again in seconds."""
ENDED = 0
"""The level of a condition that does not hold."""


class Kind(StrEnum):
    """The conditions, by the names that a receiver sees."""

    FAILING = "failing"
    """The connection fails, or the database cannot be reached. It is told once it has lasted for 30 s; its end, for
    example by a pause, is told in the same way."""
    NO_PROGRESS = "no_progress"
    """No pull has read anything for three intervals, although none fails. It is told, and so is its end, once it has
    lasted for 30 s."""
    NOT_ADOPTED = "not_adopted"
    """The database was restored, was copied, or has lost commits; what was queued before that is held."""
    HELD = "changes_held"
    """Changes wait for somebody to release them. It is told again when they are ten times as many."""
    FAILED = "changes_failed"
    """Changes were refused for good. It is told again when they are ten times as many."""
    STUCK = "changes_stuck"
    """Changes cannot go on until somebody mends what keeps them, for example something on the outbox's table that
    refuses them. It is told again when they are ten times as many."""
    REJECTED = "records_rejected"
    """Records of the API could not be stored. It is told again when they are ten times as many."""
    DRIFT = "drift"
    """The last audit has found codes that had drifted. Each such audit is told."""
    AUDIT_STOPPED = "audit_stopped"
    """The last audit could not find more than `SYNC_AUDIT_MAX_LOSS` of the codes, and changed nothing."""


LEFT = (
    (Kind.HELD, Status.HELD, "changes held until somebody releases them"),
    (Kind.FAILED, Status.FAILED, "changes refused for good"),
)
NO_CONNECTION = ""
Key = tuple[str, Kind]
"""A connection's name and what holds of it: there is one of each."""
PASSING = {Kind.FAILING, Kind.NO_PROGRESS}
WHAT_TO_DO: Mapping[Kind, str] = {
    Kind.FAILING: "run `voucher-sync check`: it names the cause and the next step",
    Kind.NO_PROGRESS: "see `voucher-sync status`; if the daemon hangs, start it anew, and report it with its log",
    Kind.NOT_ADOPTED: "see what is left with `voucher-sync adopt --show`, then run `voucher-sync adopt`",
    Kind.HELD: "see `voucher-sync outbox list --status held`, then `outbox release` or `outbox cancel` them",
    Kind.FAILED: "see `voucher-sync outbox list --status failed`; once the cause is mended, `outbox retry` them",
    Kind.STUCK: "see `voucher-sync outbox list --status pending`, and `--status uncertain`: their last_error says why",
    Kind.DRIFT: "`voucher-sync status` tells what was found, and `audit --repair` mends what the daemon has not: if it "
    "comes again, find out who changes codes without a change of UpdatedUtc",
    Kind.AUDIT_STOPPED: "find out why; if that is right, run the command that it names, for this connection alone",
    Kind.REJECTED: "see sync.rejected_records for the reasons; all other codes are mirrored",
}


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that holds of a connection. With a higher `level` it is told anew: ten times as many, or found again.

    `summary` quotes no code's value.
    """

    connection: str
    kind: Kind
    level: int
    summary: str

    @property
    def key(self) -> Key:
        """What there is one of."""
        return self.connection, self.kind


def conditions_of(one: ConnectionStatus) -> Iterator[Condition]:
    """What holds of a connection, as it stands in the database."""
    backlog, mirror = one.backlog, one.mirror
    if one.state == "failing" and one.paused_at is None:
        yield Condition(one.name, Kind.FAILING, 1, f"fails: {one.error}")
    if one.gap:
        lost = "was restored or copied, so nothing is sent" if one.gap == "copy" else "has lost commits"
        yield Condition(one.name, Kind.NOT_ADOPTED, 1, f"the database {lost}")
    for kind, status, what in LEFT:
        count = backlog.count(status)
        if one.gap and status is Status.HELD:  # to release what is from before the gap is for `adopt`, as is told above
            count -= backlog.held.get(HeldBecause.BEFORE_A_GAP, 0)
        yield from _counted(one.name, kind, count, what, words.count(count, backlog.has_more(status)))
    for kind, count, what in (
        (Kind.STUCK, backlog.stuck, "changes stuck until somebody mends what keeps them"),
        (Kind.REJECTED, mirror.rejected_records, "records of the API that cannot be stored"),
    ):
        yield from _counted(one.name, kind, count, what, bounded(count))
    if mirror.audit_braked:
        yield Condition(one.name, Kind.AUDIT_STOPPED, 1, f"the last audit changed nothing: {mirror.audit_braked}")
    elif mirror.audit_drift:
        # Each audit is news of its own; that a voucher is new, which none has compared yet, is none.
        found = f"{plural(mirror.audit_drift, 'code')} had drifted when last compared, and {words.mended(mirror)}"
        level = int(mirror.audited_since.timestamp()) if mirror.audited_since else 1
        yield Condition(one.name, Kind.DRIFT, level, found)


def conditions_of_none(unassigned: Mapping[str, int]) -> Iterator[Condition]:
    """What holds of changes whose voucher none of several connections knows, by how many there are of each status."""
    for kind, status, what in LEFT:
        count = unassigned.get(status, 0)
        yield from _counted(NO_CONNECTION, kind, count, f"(no connection knows the voucher) {what}", bounded(count))


def _counted(connection: str, kind: Kind, count: int, what: str, number: str) -> Iterator[Condition]:
    if count:
        yield Condition(connection, kind, len(str(count)), f"{what}: {number}")


class Lasting:
    """Tells what has held, or not, for long enough. Time comes in as `now_s`, of a clock that only goes forward."""

    def __init__(self) -> None:
        self._since_s: dict[Key, tuple[bool, float]] = {}

    def undecided(self, present: Collection[Key], known: Iterable[Key], now_s: float) -> set[Key]:
        """Those of what is `present`, or was `known` before, of which it is too early to say that it changed."""
        passing = {key for key in {*present, *known} if key[1] in PASSING}
        before, self._since_s = self._since_s, {}
        for key in passing:
            holds = key in present
            held, since_s = before.get(key, (holds, now_s))
            self._since_s[key] = (holds, since_s if held == holds else now_s)
        return {key for key, (_, since_s) in self._since_s.items() if now_s - since_s < LASTS_S}

    def lasts_s(self, key: Key, now_s: float) -> float:
        """For how long what was last present, or known, has held or not."""
        return now_s - self._since_s[key][1]
