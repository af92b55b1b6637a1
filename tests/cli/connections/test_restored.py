"""A database that was put back with several hotels' tokens in it: nothing twice, nothing that was taken back."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from sync.postgres.migrations import migrate
from tests.cli.conftest import SHOWN_SOON, Cli
from tests.support.dump import dump, restore
from tests.support.mirror import Mirror
from tests.support.physical import physical_server
from tests.support.process import Ended
from tests.support.two_tokens import KEY

pytestmark = pytest.mark.long

NAMES = ("default", "hill", "lake")
TAKEN_BACK, MADE = "1", ("2", "3")
QUEUE = "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', %s, %s)"
CANCEL = "UPDATE mews.voucher_code_outbox SET status = 'cancelled' WHERE value LIKE %s"
STATUSES = "SELECT connection, status, count(*) FROM mews.voucher_code_outbox GROUP BY 1, 2"


class Hotels:
    """The hotel of the environment's token and two whose tokens the database keeps, each with a voucher."""

    def __init__(self, mirror: Mirror, cli: Cli, directory: Path) -> None:
        self.mirror, self._cli, self._directory = mirror, cli, directory
        mirror.simulator.behaviour.allow_duplicates = True
        self.vouchers = {"default": mirror.add_voucher().id}

    @property
    def settings(self) -> dict[str, str]:
        return self.mirror.environment | {"SYNC_SECRET_KEY": KEY}

    async def add_stored(self) -> None:
        """Has the database keep tokens."""
        world = self.mirror.world
        for name in NAMES[1:]:
            hotel = world.add_enterprise(name)
            service = world.add_service(hotel.id, "Stay")
            world.add_token(f"token-of-{name}", name=name, enterprise_ids=[hotel.id])
            self.vouchers[name] = world.add_voucher(service.id, name, created_utc=self.mirror.clock()).id
            (self._directory / name).write_text(f"token-of-{name}", encoding="utf-8")
            assert (await self.run("connections", "add", name, "--access-token-file", name)).code == 0

    async def run(self, *words: str) -> Ended:
        soon = SHOWN_SOON if words[0] == "adopt" else {}
        return await self._cli(*words, settings=self.settings | soon)

    def execute(self, statement: str, *parameters: object) -> None:
        with psycopg.connect(self.mirror.database_url, autocommit=True) as connection:
            connection.execute(statement.encode(), parameters)

    def queue(self) -> None:
        """Three adds of each hotel."""
        for name, voucher_id in self.vouchers.items():
            for number in (TAKEN_BACK, *MADE):
                self.execute(QUEUE, voucher_id, f"{name}-{number}")

    def statuses(self) -> dict[tuple[str, str], int]:
        """How many changes of each hotel there are in each status."""
        with psycopg.connect(self.mirror.database_url) as connection:
            return {(name, status): count for name, status, count in connection.execute(STATUSES.encode())}

    def made(self) -> Counter[str | None]:
        return Counter(code.value for code in self.mirror.world.codes.truth.values())


def all_held() -> dict[tuple[str, str], int]:
    return dict.fromkeys(((name, "held") for name in NAMES), 1 + len(MADE))


def each(*numbers: str) -> Counter[str | None]:
    return Counter(f"{name}-{number}" for name in NAMES for number in numbers)


class Restored(NamedTuple):
    """A database, and what keeps its present state, and puts that back."""

    url: str
    keep: Callable[[], object]
    put_back: Callable[[], object]


@pytest.fixture(params=["dump", "files"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Restored]:
    if request.param == "files":
        with physical_server() as server:
            migrate(server.url)
            yield Restored(server.url, server.back_up, partial(server.put_back, promote=False))
    else:
        url, path = request.getfixturevalue("database_url"), tmp_path / "dump"
        yield Restored(url, partial(dump, url, path), partial(restore, url, path))


async def test_what_was_queued_for_each_hotel_is_held_and_the_rest_of_it_made_once_when_it_is_adopted(
    place: Restored, cli: Cli, tmp_path: Path
) -> None:
    hotels = Hotels(Mirror(place.url), cli, tmp_path)
    async with hotels.mirror.served():
        await hotels.add_stored()
        assert (await hotels.run("once")).code == 0
        hotels.queue()
        place.keep()
        hotels.execute(CANCEL, f"%-{TAKEN_BACK}")
        assert (await hotels.run("once")).code == 0
        place.put_back()
        await hotels.run("once")
        assert (hotels.statuses(), hotels.made()) == (all_held(), each(*MADE))
        shown = await hotels.run("adopt", "--show", "--json")
        assert json.loads(shown.stdout)["left"] == {"adds": len(NAMES), "deletes": 0}
        hotels.execute(CANCEL, f"lake-{TAKEN_BACK}")
        assert (await hotels.run("adopt", "--release")).code == 0
        assert (await hotels.run("once")).code == 0
        assert hotels.made() == each(*MADE) + Counter([f"default-{TAKEN_BACK}", f"hill-{TAKEN_BACK}"])


async def test_a_hotel_that_cannot_be_read_and_has_nothing_waiting_keeps_nobody_from_adopting(
    cli: Cli, database_url: str, tmp_path: Path
) -> None:
    hotels = Hotels(Mirror(database_url), cli, tmp_path)
    async with hotels.mirror.served():
        await hotels.add_stored()
        assert (await hotels.run("once")).code == 0
        hotels.queue()
        hotels.execute(CANCEL, "lake-%")
        restore(database_url, dump(database_url, tmp_path / "dump"))
        del hotels.mirror.world.tokens["token-of-lake"]
        adopted = await hotels.run("adopt", "--release")
        assert (adopted.code, hotels.made()) == (0, Counter()), adopted
        await hotels.run("once")
        assert hotels.made() == each(TAKEN_BACK, *MADE) - Counter(f"lake-{number}" for number in (TAKEN_BACK, *MADE))


async def test_a_hotel_that_is_paused_and_has_something_waiting_is_told_with_what_to_do_first(
    cli: Cli, database_url: str, tmp_path: Path
) -> None:
    hotels = Hotels(Mirror(database_url), cli, tmp_path)
    async with hotels.mirror.served():
        await hotels.add_stored()
        assert (await hotels.run("once")).code == 0
        hotels.queue()
        assert (await hotels.run("connections", "pause", "lake")).code == 0
        restore(database_url, dump(database_url, tmp_path / "dump"))
        refused = await hotels.run("adopt", "--release")
        assert (refused.code, "removed or without tokens here cannot be looked up: lake; resume" in refused.stderr) == (
            1,
            True,
        )
        assert "adopt --release" not in refused.stderr
        assert (await hotels.run("connections", "resume", "lake")).code == 0
        assert (await hotels.run("adopt", "--release")).code == 0
        assert (await hotels.run("once")).code == 0
    assert hotels.made() == each(TAKEN_BACK, *MADE)
