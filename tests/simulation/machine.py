"""What Hypothesis may do to the service: a rule for each thing that happens, in any order."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from contextlib import AbstractContextManager, ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sync.demo.simulator import Fault, Status
from tests.simulation.actors import OURS
from tests.simulation.oracle import always, at_rest
from tests.simulation.simulation import Moment, Simulation
from tests.support.fault_profiles import BAD_READS, LATE, LOST, ODD, PROXY, REFUSED, UNPROCESSED
from tests.support.mirror import OVERLAP

READS: dict[str, dict[Fault, float]] = {
    "calm": {},
    "bad": {**BAD_READS},
    "heavy": {**BAD_READS, Status(408, "Transaction has timed out"): 0.03},
}
WRITES: dict[str, dict[Fault, float]] = {
    "calm": {},
    "lost": {**LOST},
    "refused": {**REFUSED, **UNPROCESSED, **LOST},
    "late": {**LOST, **LATE},
    "odd": {**ODD, **LOST},
    "at a proxy": {**PROXY, **LOST},
}
FAULT_PROFILES = st.tuples(st.sampled_from(sorted(READS)), st.sampled_from(sorted(WRITES)))
SKEWS_H = (0, -30, -1, 1, 30)
JUMPS_S = (1, 5, 60, 900, 90_000, 8_000_000)
FEW, SOME, MANY = st.integers(1, 5), st.integers(1, 40), st.integers(1, 120)
DAEMON_STEPS = st.one_of(st.integers(1, 500), st.integers(500, 20_000))
"""A daemon is connected and at work after a few hundred steps of its event loop."""
STATEMENTS = st.integers(1, 60)
LATE_S = 0.4 * OVERLAP.total_seconds()
"""Within the overlap."""


class Machine(RuleBasedStateMachine):
    """A simulation in a database of its own, to the verdict; what happened is added to `total` at the end."""

    def __init__(self, database: AbstractContextManager[str], directory: Path, total: Counter[str]) -> None:
        super().__init__()
        self._directory, self._total = directory, total
        self._is_wrong = False
        self._requests_between = 10
        self._stack = ExitStack()
        self._database_url = self._stack.enter_context(database)
        self._runner = self._stack.enter_context(asyncio.Runner())

    def teardown(self) -> None:
        """Judges what is left of it all, unless something was wrong before."""
        with self._stack:
            if not self._is_wrong:
                self._judge(self._run(at_rest(self._simulation)))
                self._total.update(self._simulation.happened)
                self._total["examples"] += 1

    @initialize(
        seed=st.integers(0, 2**32),
        skew_h=st.sampled_from(SKEWS_H),
        date_ahead_s=st.sampled_from((0.0, 2.0, -2.0)),
        profile=FAULT_PROFILES,
        behaviour=st.fixed_dictionaries(
            {
                "allow_duplicates": st.booleans(),
                "lenient_delete": st.booleans(),
                "shuffle_added": st.booleans(),
                "hide_writes_for_s": st.sampled_from((0.0, 0.2)),
            }
        ),
    )
    def begin(
        self, seed: int, skew_h: int, date_ahead_s: float, profile: tuple[str, str], behaviour: dict[str, Any]
    ) -> None:
        """The API's clock is not ours, and it behaves and fails in a way of its own."""
        self._simulation = Simulation(self._database_url, self._directory, seed, skew=timedelta(hours=skew_h))
        for name, value in {**behaviour, "date_ahead_s": date_ahead_s}.items():
            setattr(self._simulation.mirror.simulator.behaviour, name, value)
        opened = self._simulation.opened()
        self._run(opened.__aenter__())
        self.change_profile(profile)
        self._stack.callback(lambda: self._run(opened.__aexit__(None, None, None)))

    @invariant()
    def goes_on(self) -> None:
        """The daemon works on for a while; some things must be right at any moment."""
        if hasattr(self, "_simulation"):
            self._run(self._simulation.work(self._requests_between))
            self._judge(self._run(always(self._simulation)))

    @rule(steps=MANY)
    def others_change(self, steps: int) -> None:
        """Other users are busy."""
        self._simulation.actors.change(steps)

    @rule(steps=st.integers(0, 6))
    def rows_move_between_pages(self, steps: int) -> None:
        """Other users are busy between any two answers."""
        self._simulation.bustle = steps

    @rule(count=SOME)
    def others_edit_ours(self, count: int) -> None:
        """Other users edit what the outbox changes too."""
        self._simulation.actors.edit_ours(count)

    @rule()
    def import_many(self) -> None:
        """More codes than a page holds."""
        self._simulation.actors.import_many()

    @rule(seconds=st.floats(0, LATE_S))
    def change_unseen(self, seconds: float) -> None:
        """A change shows late."""
        self._simulation.actors.change_unseen(seconds)

    @rule()
    def change_behind_the_windows(self) -> None:
        """Only an audit can find this."""
        self._simulation.actors.change_behind_the_windows()

    @rule()
    def plant_drift(self) -> None:
        """The mirror itself is changed."""
        self._run(self._simulation.actors.plant_drift())

    @rule()
    def open_hotel(self) -> None:
        """One more enterprise with old codes."""
        self._simulation.actors.open_hotel()

    @rule(are_seen=st.booleans())
    def show_hotels(self, *, are_seen: bool) -> None:
        """The scope of the token changes."""
        self._simulation.actors.show_hotels(are_seen=are_seen)

    @rule(requests=SOME)
    def revoke(self, requests: int) -> None:
        """The token is invalid for a while."""
        self._simulation.actors.revoke(is_revoked=True)
        self._run(self._simulation.work(requests))
        self._simulation.actors.revoke(is_revoked=False)

    @rule(voucher=st.integers(0, OURS - 1), count=MANY)
    def queue_adds(self, voucher: int, count: int) -> None:
        """Adds."""
        self._run(self._simulation.actors.queue_adds(voucher, count))

    @rule(count=SOME, by_id=st.booleans(), anew=st.booleans())
    def queue_deletes(self, count: int, *, by_id: bool, anew: bool) -> None:
        """Deletes, and adds behind them."""
        self._run(self._simulation.actors.queue_deletes(count, by_id=by_id, anew=anew))

    @rule(count=SOME)
    def regret(self, count: int) -> None:
        """Deletes behind adds."""
        self._run(self._simulation.actors.regret(count))

    @rule(profile=FAULT_PROFILES)
    def change_profile(self, profile: tuple[str, str]) -> None:
        """From now on reads and writes fail in another way."""
        reads, writes = profile
        self._simulation.profile(READS[reads], WRITES[writes])

    @rule(seconds=st.sampled_from(JUMPS_S))
    def time_jumps(self, seconds: int) -> None:
        """The API's time passes, up to three months at once."""
        self._simulation.mirror.clock.advance(timedelta(seconds=seconds))

    @rule(statement=STATEMENTS, is_answered=st.booleans())
    def cut_the_line(self, statement: int, *, is_answered: bool) -> None:
        """The database goes away at a statement."""
        self._simulation.proxy.cut_at(statement, is_answered=is_answered)

    @rule(is_down=st.booleans())
    def database_goes(self, *, is_down: bool) -> None:
        """Every line to the database is cut; it comes back at once, or after a while."""
        self._simulation.proxy.cut()
        if is_down:
            self._run(self._simulation.work_without_database())

    @rule(requests=st.integers(0, 40))
    def change_pace(self, requests: int) -> None:
        """From now on so many requests are made between any two of these happenings."""
        self._requests_between = requests

    @rule(steps=st.lists(DAEMON_STEPS, min_size=1, max_size=4))
    def die_between_awaits(self, steps: list[int]) -> None:
        """Daemons in a row, each of which dies by itself at a step."""
        self._run(self._simulation.kill())
        for step in steps:
            self._run(self._simulation.live_for(step))

    @rule(moment=st.sampled_from(("arrival", "answer")))
    def die_at_write(self, moment: Moment) -> None:
        """A kill just before or just after the effect of a write."""
        self._simulation.doom_at_write(moment)

    @rule(requests=FEW)
    def kill(self, requests: int) -> None:
        """A kill after some requests."""
        self._run(self._simulation.work(requests))
        self._run(self._simulation.kill())

    @rule()
    def stop(self) -> None:
        """A stop in good order."""
        self._run(self._simulation.stop())

    @rule()
    def audit(self) -> None:
        """An audit begins beside the daemon, unless one is running."""
        if all(audit.is_over for audit in self._simulation.audits):
            self._run(self._simulation.audit())

    def _run(self, happening: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(happening)

    def _judge(self, wrong: list[str]) -> None:
        if wrong:
            self._is_wrong = True
            raise AssertionError("\n".join(wrong))
