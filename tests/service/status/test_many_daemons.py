"""What is told of daemons is made of them once, however many connections ask: the status page is made in their loop."""

from collections.abc import Iterator
from datetime import timedelta

from sync.service.status.facts import Daemon, Overview
from sync.service.status.verdict import judge
from tests.service.status.helpers import NOW, connection, daemon

CONNECTIONS = 200


class Counted(list[Daemon]):
    """Counts how often somebody goes through it."""

    looks = 0

    def __iter__(self) -> Iterator[Daemon]:
        self.looks += 1
        return super().__iter__()


def silent(number: int) -> Daemon:
    """One that was killed, as each of a machine that runs out of memory again and again."""
    return daemon(number, host=f"pod-{number}", is_alive=False, heartbeat_age_s=3600.0 + number)


def test_of_many_that_were_killed_is_told_without_going_through_them_for_each_connection_again_and_again() -> None:
    daemons = Counted([daemon(), *(silent(number) for number in range(2, 52))])
    connections = [connection(name=f"hotel-{number}", origin="command") for number in range(CONNECTIONS)]
    told = judge(Overview(NOW, "hotel at localhost", "0019", connections, daemons))
    assert (told.headline, "daemon pod-2 (4002), last heard of 60 minutes ago, and 49 more" in told.cause) == (
        f"All {CONNECTIONS} connections work",
        True,
    )
    assert daemons.looks <= CONNECTIONS + 10


def test_one_that_was_started_anew_on_its_machine_is_not_missed() -> None:
    begun = daemon(started_at=NOW - timedelta(minutes=5))
    before = daemon(2, is_alive=False, heartbeat_age_s=400.0)
    later = daemon(3, is_alive=False, heartbeat_age_s=200.0)
    elsewhere = daemon(4, host="host-b", is_alive=False, heartbeat_age_s=500.0)
    overview = Overview(NOW, "hotel at localhost", "0019", [], [begun, before, later, elsewhere])
    assert overview.gone == [later, elsewhere]
