"""A sample of `make crashpoints`, and that what it counts would be seen."""

import os
import random
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta

import pytest
from msgspec.structs import replace

from tests.crashpoints.aftermath import judge
from tests.crashpoints.beginnings import A_MOMENT
from tests.crashpoints.places import Event
from tests.crashpoints.scenes import SCENES, Change, Scene
from tests.crashpoints.trials import open_bench, try_scene
from tests.support.mirror import Mirror
from tests.support.outbox import Outbox

SEED = int(os.environ.get("CRASHPOINTS_SEED") or 0)
SAMPLE = 2
"""So many combinations of a scene in which changes are pushed, and of one in which they are adopted."""
WAY_OF_AN_ADD = (
    "outbox/look.py",
    "outbox/dispatch.py",
    "outbox/send.py",
    "outbox/completer.py",
    "outbox/completion.py",
)
"""Where an add waits for the database and the API, in this order."""
ADD = Scene("an add", (Change("add"),))
BEGUN_BEFORE = "outbox/dispatch.py:"
"""It waits for nothing itself but for what the witness knows, which a thread reads meanwhile."""


@pytest.mark.parametrize("is_adopted", [False, pytest.param(True, marks=pytest.mark.long)])
async def test_nothing_is_doubled_lost_or_different_wherever_it_goes_wrong(database_url: str, is_adopted: bool) -> None:
    scene = random.Random(SEED).choice([one for one in SCENES if bool(one.adopted) is is_adopted])
    async with open_bench(database_url) as bench:
        tally = await try_scene(bench, scene, sample=SAMPLE, seed=SEED)
    again = f"again with CRASHPOINTS_SEED={SEED}:"
    assert (tally.is_good, tally.reached) == (True, SAMPLE), "\n".join([again, *tally.stories])


@pytest.mark.long
async def test_the_points_of_an_add_are_found_and_are_the_same_each_time(database_url: str) -> None:
    async with open_bench(database_url) as bench:
        places, again = await bench.find_places(ADD), await bench.find_places(ADD)
    assert again.calls == places.calls
    assert awaits(again.points) == awaits(places.points)
    firsts = [next(n for n, point in enumerate(places.points) if file in point) for file in WAY_OF_AN_ADD]
    assert firsts == sorted(firsts)
    asked, answered = ([p for p in places.points if p.startswith(word)] for word in ("asked", "answered"))
    assert {p.removeprefix("asked") for p in asked} >= {p.removeprefix("answered") for p in answered}
    assert {event for event, _ in places.combinations()} == set(Event)


def awaits(points: Iterable[str]) -> set[str]:
    """Where they are; how often and in what order differs where a session or a thread is waited for.

    Without where a thread is waited for that was begun before: it may have ended by then.
    """
    places = {point.partition(" #")[0] for point in points}
    return {place for place in places if not place.rpartition(" > ")[2].startswith(BEGUN_BEFORE)}


async def made(mirror: Mirror) -> None:
    """The add, made and noted."""
    voucher = next(iter(mirror.world.vouchers.values()))
    outbox = Outbox(mirror)
    await mirror.execute(
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, note) VALUES ('add', :voucher, 'A', 'A')",
        voucher=voucher.id,
    )
    await outbox.refresh()
    await outbox.pusher.push()


async def doubled(mirror: Mirror) -> None:
    mirror.add_codes(next(iter(mirror.world.vouchers.values())), ["A"], days_old=A_MOMENT)
    await mirror.once()


async def lost(mirror: Mirror) -> None:
    mirror.world.delete_code(next(iter(mirror.world.codes.truth)))
    mirror.clock.advance(timedelta(seconds=2))
    await mirror.once()


async def different(mirror: Mirror) -> None:
    (code,) = mirror.world.codes.truth.values()
    mirror.world.codes.put([replace(code, validity_end_utc=mirror.clock().replace(microsecond=0))])


@pytest.mark.parametrize(("goes_wrong", "counts"), [(doubled, (2, 0, 0)), (lost, (0, 1, 0)), (different, (0, 0, 1))])
async def test_what_is_wrong_is_counted(
    mirror: Mirror, goes_wrong: Callable[[Mirror], Awaitable[None]], counts: tuple[int, int, int]
) -> None:
    mirror.add_voucher()
    await mirror.once()
    await made(mirror)
    assert (await judge(mirror, ADD, "A")).is_good
    await goes_wrong(mirror)
    verdict = await judge(mirror, ADD, "A")
    assert (verdict.doubled, verdict.lost, verdict.different) == counts, verdict.story
