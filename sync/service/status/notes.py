"""What somebody must look at while all goes on, and what to do; pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import shorten

from sync.core.plurals import plural
from sync.mirror.skipped import NOT_LISTED
from sync.outbox.each_row import KEPT, REFUSES
from sync.outbox.rules import HeldBecause
from sync.outbox.uncertain import NOT_SHOWN
from sync.service.status import remedies, words
from sync.service.status.facts import COUNTED_TO, ConnectionStatus, Overview

HELD_TO_DO = (
    "see `voucher-sync outbox list --status held`; then send them with `voucher-sync outbox release`, or take them "
    "back with `voucher-sync outbox cancel`"
)
ADOPT_TO_DO = "nothing before `voucher-sync adopt`, which looks up what of them is done, and then asks about the rest"
FAILED_TO_DO = (
    "see `voucher-sync outbox list --status failed`; once the cause is mended, `voucher-sync outbox retry` them, or "
    "leave them"
)
UNKNOWN_TO_DO = (
    "see `voucher-sync outbox list --status failed`: queue them again with a voucher of `voucher-sync vouchers`, or "
    "leave them"
)
STUCK_TO_DO = (
    "see `voucher-sync outbox list --status pending`, and `--status uncertain`: their last_error says what it is"
)
REFUSED_TO_DO = (
    "nothing at first: each is asked for again a day after it was refused; if it stays, tell the vendor, with the "
    "Request-Id in sync.skipped"
)
DRIFT_TO_DO = (
    "nothing for a single time; where it comes again, somebody changes the mirror's rows by hand, or codes change "
    "without a new `UpdatedUtc`, which only an audit sees"
)

STUCK = (REFUSES, KEPT, NOT_SHOWN)
LONGEST_REASON = 240


@dataclass(frozen=True, slots=True)
class Note:
    """Something that somebody must look at while all goes on, and what to do; `what`: in short, and without numbers."""

    text: str
    to_do: str
    what: str = ""


def bounded(number: int) -> str:
    """A number of what is not counted further than `COUNTED_TO`, nor looked at for whether there is more."""
    return f"{number:,}{' or more' if number >= COUNTED_TO else ''}"


def notes_on(one: ConnectionStatus) -> Iterator[Note]:
    """What somebody must look at, the most urgent first."""
    backlog, mirror = one.backlog, one.mirror
    if count := backlog.count("held"):
        why = f": {words.held_because(backlog.held)}" if backlog.held else ""
        text = f"{words.changes(count, backlog.has_more('held'))} held until somebody looks{why}"
        is_adopts = one.gap is not None and set(backlog.held) == {HeldBecause.BEFORE_A_GAP.value}
        yield Note(text, ADOPT_TO_DO if is_adopts else HELD_TO_DO, "changes are held")
    if mirror.audit_braked:
        what = "the audit changed nothing"
        yield Note(f"The audit changed nothing: {mirror.audit_braked}", remedies.of("TooMuchMissing"), what)
    if count := backlog.count("failed"):
        text = f"{words.changes(count, backlog.has_more('failed'))} refused for good, so not tried again"
        text += _reason([group.reason for group in one.details.failed])
        yield Note(text, FAILED_TO_DO, "changes were refused")
    if backlog.stuck:
        what = "change" if backlog.stuck == 1 else "changes"
        text = f"{bounded(backlog.stuck)} {what} stuck until somebody mends what keeps them"
        text += _reason([group.why for group in one.details.waiting if any(why in group.why for why in STUCK)])
        yield Note(text, STUCK_TO_DO, "changes are stuck")
    if mirror.audit_drift and not mirror.audit_braked:
        is_mended = mirror.audit_repaired >= mirror.audit_drift
        text = f"The last audit found {plural(mirror.audit_drift, 'code')} that had drifted, and {words.mended(mirror)}"
        to_do = DRIFT_TO_DO if is_mended else f"`voucher-sync audit --repair` mends them; then {DRIFT_TO_DO}"
        yield Note(text, to_do, "codes had drifted")
    if mirror.refused_vouchers:
        text = f"Nothing is read of {plural(mirror.refused_vouchers, 'voucher')} whose codes the API refuses to list"
        skipped = [some.reason for some in one.details.skipped_because if some.kind == "voucher"]
        text += _reason([reason for reason in skipped if reason != NOT_LISTED])
        yield Note(text, REFUSED_TO_DO, "vouchers are refused")
    if mirror.rejected_records:
        number = mirror.rejected_records
        text = f"{bounded(number)} {'record' if number == 1 else 'records'} of the API cannot be stored"
        text += _reason([left_out.reason for left_out in one.details.rejected_because])
        to_do = "see sync.rejected_records for the reasons; the rest goes on"
        yield Note(text, to_do, "records cannot be stored")


def notes_on_unassigned(overview: Overview) -> Iterator[Note]:
    """What somebody must look at of changes that are no connection's, where there are several."""
    for status, what, to_do in (
        ("failed", "refused for good", UNKNOWN_TO_DO),
        ("held", "held until somebody looks", HELD_TO_DO),
    ):
        if count := overview.unassigned.get(status):
            number = words.changes(count, status in overview.unassigned_at_least)
            text = f"{number} {what}, of vouchers that no connection knows"
            yield Note(
                text, to_do, f"changes of unknown vouchers {'were refused' if status == 'failed' else 'are held'}"
            )


def _reason(reasons: Sequence[str]) -> str:
    """The first of them, which most have; empty where none are told, as of the last of very many connections."""
    if not reasons:
        return ""
    return f"; {'most often' if len(reasons) > 1 else 'the reason'}: {shorten(reasons[0], LONGEST_REASON)}"
