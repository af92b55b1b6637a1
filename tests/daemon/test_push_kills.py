"""Adds and deletes reach the API once, while calls fail in every way and the daemon is killed with -9."""

from collections.abc import Sequence, Set
from datetime import timedelta
from pathlib import Path
from random import Random
from uuid import UUID

import pytest
from sqlalchemy import text

from sync.demo.simulator import OtherUsers, Voucher
from sync.outbox.claims import as_daemon
from tests.daemon.stress import BY_ID, SEEDS, FaultProfile, Key, Stress
from tests.support.fault_profiles import LATE, LOST, ODD, PROXY, REFUSED, UNPROCESSED
from tests.support.flows import a_day_passes_for_refusals, add_hotel, add_voucher_to, later
from tests.support.mirror import ACCESS_TOKEN, Mirror
from tests.support.oracle import Oracle, consult, differences

DOUBLES = {"allow_duplicates": True}
"""Where the API takes a code twice, whatever is sent once too often shows."""
AT_REST_S = 5.0
"""After this, the last change lies before the API's present second by any clock of these profiles."""

FAULT_PROFILES = {
    # The refusals hit single changes too, which fail rightly then; so does an add behind a delete that failed.
    "in every way": FaultProfile({**REFUSED, **UNPROCESSED, **LOST}, DOUBLES, scale=1),
    "and doubles are refused": FaultProfile({**REFUSED, **UNPROCESSED, **LOST}),
    # From here on, nothing that goes wrong says anything against a change: all must be done.
    "and effects show late": FaultProfile({**LOST, **LATE}, {**DOUBLES, "hide_writes_for_s": 0.4}),
    # Later than the API promises: no add is doubled all the same, since the API refuses it, and none may be given up.
    # What deletes a code that the API does not show yet fails with these words, so there are none of these deletes.
    "and effects show too late and doubles are refused": FaultProfile(LOST, {"hide_writes_for_s": 0.8}, regrets=0),
    "with a Date ahead": FaultProfile(LOST, {**DOUBLES, "date_ahead_s": 2.0}),
    "with a Date behind": FaultProfile(LOST, {**DOUBLES, "date_ahead_s": -2.0}),
    "in answers that were not asked for": FaultProfile(
        {**ODD, **LOST}, {**DOUBLES, "shuffle_added": True}, {"SYNC_MAX_RESPONSE_MB": "1"}
    ),
    "at a proxy": FaultProfile({**PROXY, **LOST}, DOUBLES),
}

SAMPLE = "and doubles are refused"
"""What `make test` runs of them."""


async def passed(stress: Stress, name: str, vouchers: Sequence[Voucher] | None = None) -> Oracle:
    """What there is once the stress is over and every change, or every one of some vouchers, has ended."""
    await stress.mirror.once()
    await stress.rage()
    await stress.calm_down(vouchers=vouchers)
    await later(stress.mirror, AT_REST_S)
    after = await consult(stress.mirror)
    print(f"\n{after.tell(name, stress.kills)}")  # noqa: T201 - what `make storm` is run for
    return after


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "profile", [SAMPLE, *(pytest.param(name, marks=pytest.mark.long) for name in FAULT_PROFILES if name != SAMPLE)]
)
async def test_every_change_is_made_once_whatever_fails(
    database_url: str, tmp_path: Path, profile: str, seed: int
) -> None:
    mirror = Mirror(database_url)
    vouchers = [mirror.add_voucher(f"Voucher {number}") for number in range(4)]
    stress = Stress(mirror, tmp_path, FAULT_PROFILES[profile], seed, vouchers)
    async with mirror.opened():
        after = await passed(stress, f"{profile}, seed {seed}")
        assert not (untrue := after.untrue()), "\n".join(untrue)
        assert not (differing := await differences(mirror)), "\n".join(differing)
        assert not await mirror.rows("SELECT * FROM sync.attempts")
        assert mirror.simulator.violations == []


class Rivals:
    """Other users, who delete, edit and add codes of values that are or will be queued; and what of it is theirs."""

    def __init__(self, stress: Stress, seed: int) -> None:
        self.made, self.deleted = set[UUID](), set[UUID]()
        self._stress = stress
        self._others = OtherUsers(stress.mirror.world, seed)
        self._rng = Random(seed)

    def act(self, _round: int) -> None:
        """Three changes, mostly to what was queued last or stood before."""
        truth, queued = self._stress.mirror.world.codes.truth, self._stress.queued
        for _ in range(3):
            before = dict(truth)
            some = self._rng.choice([self._stress.stood, queued[-20:], queued[-20:], queued])
            self._others.touch(*self._rng.choice(some or self._stress.stood))
            self.made |= truth.keys() - before.keys()
            self.deleted |= {id_ for id_, old in before.items() if old.is_active and not truth[id_].is_active}


RIVALRIES = {
    "strict": FaultProfile(LOST, {"hide_writes_for_s": 0.2}, renewals=0, regrets=0, scale=5),
    "lenient": FaultProfile(LOST, {"lenient_delete": True, "hide_writes_for_s": 0.2}, renewals=0, regrets=0, scale=5),
}


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("deletes", RIVALRIES)
async def test_what_others_do_to_the_same_values_is_neither_undone_nor_claimed(
    database_url: str, tmp_path: Path, deletes: str, seed: int
) -> None:
    mirror = Mirror(database_url)
    vouchers = [mirror.add_voucher(f"Voucher {number}") for number in range(4)]
    stress = Stress(mirror, tmp_path, RIVALRIES[deletes], seed, vouchers)
    rivals, stood = Rivals(stress, seed), frozenset(mirror.world.codes.truth)
    stress.before_round = rivals.act
    async with mirror.opened():
        after = await passed(stress, f"beside others, {deletes} deletes, seed {seed}")
        untrue = [after.story(key) for key in after.rows if not is_fair(after, key, rivals, stood)]
        assert not untrue, "\n".join(untrue)
        assert not (differing := await differences(mirror)), "\n".join(differing)
        assert mirror.simulator.violations == []


def is_fair(after: Oracle, key: Key, rivals: Rivals, stood: Set[UUID]) -> bool:
    """Whether the one change of a value had its effect at most once, on a code that it names, and says so.

    A delete takes the code that had its value by the mirror: what others add meanwhile may stay, but where there was
    nothing to send, nothing that stood when it was queued. An add that an answer was lost for may be taken for done
    where others have added the same: the code stands, once.
    """
    (row,) = after.rows[key]
    held = {code.id: code.is_active for code in after.held[key]}
    ours = held.keys() - stood - rivals.made
    deleted = {id_ for id_, is_active in held.items() if not is_active} - rivals.deleted
    if row["operation"] == "add" and row["status"] == "failed":
        return after.refusal(row) is not None and not ours and not deleted
    if row["status"] != "done" or row["voucher_code_id"] not in held:
        return False
    if row["operation"] == "add":
        return len(ours) <= 1 and not deleted
    left = [code for code in after.held[key] if code.is_active]
    # Created in whole seconds: in the second of the queueing it may have been after it.
    queued = row["created_at"] - timedelta(seconds=1)
    is_by_value = row["note"] != BY_ID
    is_overlooked = (
        is_by_value and not row["attempts"] and any(code.created_utc and code.created_utc < queued for code in left)
    )
    is_gone = not held[row["voucher_code_id"]]
    return is_gone and not is_overlooked and deleted <= {row["voucher_code_id"]} and not ours


LOSS = FaultProfile({**UNPROCESSED, **LOST}, DOUBLES, renewals=0)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_hotel_that_is_lost_keeps_back_only_its_own_changes(
    database_url: str, tmp_path: Path, seed: int
) -> None:
    mirror = Mirror(database_url)
    hotel, service = add_hotel(mirror, "Hotel B")
    ours = [mirror.add_voucher(f"A {number}") for number in range(2)]
    lost = [add_voucher_to(mirror, service, f"B {number}") for number in range(2)]
    stress = Stress(mirror, tmp_path, LOSS, seed, [*ours, *lost])

    def withdraw(number: int) -> None:
        if number == stress.rounds // 2:
            mirror.world.withdraw(ACCESS_TOKEN, hotel.id)

    stress.before_round = withdraw
    async with mirror.opened():
        after = await passed(stress, f"with a hotel lost, seed {seed}", ours)
        assert not (untrue := after.untrue({voucher.id for voucher in ours})), "\n".join(untrue)
        assert await mirrored_of(mirror, ours) == active_of(mirror, ours)
        assert await failed_or_uncertain(mirror, lost)
        # Once it is seen again, and what failed is tried again, nothing is missing and nothing there twice.
        mirror.world.grant(ACCESS_TOKEN, hotel.id)
        for _ in range(2):  # what was refused after an outcome was lost fails only now, after its look
            await retry_now(mirror)
            await stress.calm_down()
        await a_day_passes_for_refusals(mirror)
        await later(mirror, AT_REST_S)
        after = await consult(mirror)
        assert not (untrue := after.untrue()), "\n".join(untrue)
        assert not (differing := await differences(mirror)), "\n".join(differing)
        assert mirror.simulator.violations == []


async def retry_now(mirror: Mirror) -> None:
    """Tries again what failed, as an operator would, and lets no wait be left."""
    await mirror.execute("UPDATE mews.voucher_code_outbox SET status = 'pending' WHERE status = 'failed'")
    async with as_daemon(mirror.connection.engine) as tx:
        await tx.execute(text("UPDATE mews.voucher_code_outbox SET next_attempt_at = now()"))


async def failed_or_uncertain(mirror: Mirror, vouchers: Sequence[Voucher]) -> int:
    """How many changes of some vouchers have failed, or are uncertain."""
    rows = await mirror.rows(
        "SELECT FROM mews.voucher_code_outbox WHERE voucher_id = ANY (:vouchers) AND status IN ('failed', 'uncertain')",
        vouchers=[voucher.id for voucher in vouchers],
    )
    return len(rows)


async def mirrored_of(mirror: Mirror, vouchers: Sequence[Voucher]) -> dict[UUID, bool]:
    """The codes of some vouchers in the mirror, and whether they are active."""
    rows = await mirror.rows(
        "SELECT id, is_active FROM mews.voucher_codes WHERE voucher_id = ANY (:vouchers)",
        vouchers=[voucher.id for voucher in vouchers],
    )
    return {row["id"]: row["is_active"] for row in rows}


def active_of(mirror: Mirror, vouchers: Sequence[Voucher]) -> dict[UUID, bool]:
    """The same in the API."""
    ids = {voucher.id for voucher in vouchers}
    return {code.id: code.is_active for code in mirror.world.codes.truth.values() if code.voucher_id in ids}
