"""What is told, and when it has lasted long enough."""

from datetime import timedelta

from sync.alerts.conditions import LASTS_S, Condition, Kind, Lasting, conditions_of
from sync.service.status.facts import COUNTED_TO, ConnectionStatus
from tests.service.status.helpers import NOW, WELL, changed

FAILING = ("default", Kind.FAILING)
HELD = ("default", Kind.HELD)


def only(status: ConnectionStatus) -> Condition:
    """The one condition of a connection."""
    (one,) = conditions_of(status)
    return one


def test_of_what_is_well_there_is_nothing_to_tell() -> None:
    assert list(conditions_of(WELL)) == []
    assert list(conditions_of(changed(WELL, state="unknown", outbox={"pending": 7}))) == []


def test_each_trouble_has_its_own_name() -> None:
    assert only(changed(WELL, state="failing", error="the API is away")).summary == "fails: the API is away"
    assert only(changed(WELL, gap="copy")).kind is Kind.NOT_ADOPTED
    assert only(changed(WELL, outbox={"held": 3})).kind is Kind.HELD
    assert only(changed(WELL, outbox={"failed": 3})).kind is Kind.FAILED
    assert only(changed(WELL, stuck=1)).kind is Kind.STUCK
    assert only(changed(WELL, rejected_records=1)).kind is Kind.REJECTED
    assert only(changed(WELL, audit_drift=2)).kind is Kind.DRIFT
    assert only(changed(WELL, audit_drift=2, audit_braked="too many")).kind is Kind.AUDIT_STOPPED


def test_what_is_paused_does_not_fail_and_what_waits_for_somebody_still_does() -> None:
    paused = changed(WELL, state="failing", error="the API is away", paused_at=NOW)
    assert list(conditions_of(paused)) == []
    assert only(changed(paused, outbox={"held": 3})).kind is Kind.HELD


def test_drift_is_told_with_how_much_of_it_is_mended() -> None:
    assert only(changed(WELL, audit_drift=2, audit_repaired=2)).summary.endswith(", and all of them are mended")


def test_what_a_gap_holds_is_for_adopt_to_release_and_told_with_the_gap_alone() -> None:
    held = {"before_a_gap": 5}
    waits = changed(WELL, gap="behind", outbox={"held": 5}, held=held)
    assert only(waits).kind is Kind.NOT_ADOPTED
    assert only(changed(waits, gap=None)).kind is Kind.HELD
    more = changed(waits, outbox={"held": 8}, held=held | {"too_many_deletes": 3})
    assert [one.summary[-3:] for one in conditions_of(more) if one.kind is Kind.HELD] == [": 3"]


def test_ten_times_as_many_are_told_anew_and_a_few_more_are_not() -> None:
    levels = [only(changed(WELL, outbox={"failed": count})).level for count in (1, 9, 10, 99, 100)]
    assert levels == [1, 1, 2, 2, 3]


def test_what_is_more_than_is_counted_is_told_as_such() -> None:
    more = changed(WELL, outbox={"held": COUNTED_TO}, outbox_at_least=["held"])
    assert only(more).summary.endswith(": more than 10,000")
    assert only(changed(WELL, outbox={"held": COUNTED_TO})).summary.endswith(": 10,000")
    for uncounted in (changed(WELL, stuck=COUNTED_TO), changed(WELL, rejected_records=COUNTED_TO)):
        assert only(uncounted).summary.endswith(": 10,000 or more")


def test_drift_that_the_next_audit_finds_again_is_told_again() -> None:
    first = only(changed(WELL, audit_drift=2)).level
    assert only(changed(WELL, audit_drift=2, audited_since=NOW + timedelta(days=1))).level > first


def test_drift_is_not_over_since_a_voucher_is_new_that_no_audit_has_compared_yet() -> None:
    before = only(changed(WELL, audit_drift=2))
    meanwhile = only(changed(WELL, audit_drift=2, audited_since=None))
    assert (meanwhile.kind, 0 < meanwhile.level < before.level) == (Kind.DRIFT, True)


def test_what_may_pass_by_itself_has_to_last() -> None:
    lasting = Lasting()
    assert lasting.undecided({FAILING}, [], 100) == {FAILING}
    assert lasting.undecided({FAILING}, [], 100 + LASTS_S - 1) == {FAILING}
    assert lasting.undecided({FAILING}, [], 100 + LASTS_S) == set()


def test_so_has_its_end() -> None:
    lasting = Lasting()
    lasting.undecided({FAILING}, [], 0)
    assert lasting.undecided(set(), [FAILING], LASTS_S) == {FAILING}
    assert lasting.undecided({FAILING}, [FAILING], LASTS_S + 1) == {FAILING}, "it came and went: counted anew"
    assert lasting.undecided({FAILING}, [FAILING], 2 * LASTS_S + 1) == set()


def test_a_process_that_just_began_does_not_know_that_it_has_ended() -> None:
    assert Lasting().undecided(set(), [FAILING], 0) == {FAILING}


def test_what_nobody_but_a_person_can_end_is_told_at_once() -> None:
    assert Lasting().undecided({HELD}, [], 0) == set()
