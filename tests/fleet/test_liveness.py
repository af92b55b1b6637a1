"""When a replica is taken for dead: by the watcher's own clock, from the last sign of life that it saw."""

from uuid import UUID

from sync.fleet.liveness import BEAT_S, BLIND_S, DEAD_AFTER_S, MISSED_S, TRUSTED_S, ReplicaWatch

OTHER = UUID(int=1)


def watching(until_s: float, beats_until_s: float, watch: ReplicaWatch | None = None) -> ReplicaWatch:
    """A watch that has looked at each beat, of which the last is before `beats_until_s`."""
    watch, at_s = watch or ReplicaWatch(), 0.0
    while at_s <= until_s:
        watch.observe({OTHER: int(min(at_s, beats_until_s) / BEAT_S)}, at_s)
        at_s += BEAT_S
    return watch


def test_who_beats_is_alive_and_who_has_not_for_long_is_dead() -> None:
    assert watching(60, beats_until_s=60).dead(60, {OTHER}, ()) == set()
    watch = watching(20, beats_until_s=10)
    assert watch.dead(10 + DEAD_AFTER_S - 0.1, (), ()) == set()
    assert watch.dead(10 + DEAD_AFTER_S, (), ()) == {OTHER}


def test_a_replica_trusts_itself_less_long_than_others_wait() -> None:
    assert TRUSTED_S < DEAD_AFTER_S


def test_a_free_lock_alone_is_no_sign_of_death() -> None:
    watch = watching(10, beats_until_s=10)
    assert watch.dead(10 + MISSED_S - 0.1, {OTHER}, ()) == set()
    assert watch.dead(10 + MISSED_S, {OTHER}, ()) == {OTHER}
    assert watch.dead(10 + MISSED_S, (), ()) == set(), "a stranger may hold it: then it only takes longer"


def test_who_was_blind_begins_to_count_anew() -> None:
    watch = watching(10, beats_until_s=10)
    back_s = 10 + BLIND_S + 50
    watch.observe({OTHER: 5}, back_s)
    assert watch.dead(back_s, {OTHER}, ()) == set()
    assert watch.silent(0, back_s) == {OTHER}


def test_an_owner_that_is_not_there_at_all_is_waited_for_as_well() -> None:
    watch = ReplicaWatch()
    for at_s in range(0, 11, 2):
        watch.observe({OTHER: None}, at_s)
        assert watch.dead(at_s, (), ()) == ({OTHER} if at_s >= DEAD_AFTER_S else set())


def test_a_process_that_is_gone_from_this_machine_is_waited_for_no_longer() -> None:
    assert watching(10, beats_until_s=10).dead(10, {OTHER}, {OTHER}) == {OTHER}
