"""A replica whose interface goes down: the kernel says nothing, the API answers, and others take over."""

from pathlib import Path

import pytest

from tests.fleet.calls import Calls, now_s
from tests.fleet.replicas import served, until_done
from tests.fleet.test_cut_off import HOTELS, SLOWER, TAKEN_OVER_S
from tests.support.daemon import UNSET
from tests.support.network import OURS, needs_network, network
from tests.support.proxy import Proxy

pytestmark = [pytest.mark.long, pytest.mark.direct, needs_network]


async def test_a_replica_without_its_interface_writes_nothing_and_its_hotels_go_on(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        served(database_url, tmp_path, HOTELS, takes_doubles=True) as fleet,
        network(fleet.mirror.port, tmp_path) as its,
        Proxy(database_url).served(OURS) as way,
    ):
        calls = Calls(fleet.mirror.simulator)
        own = fleet.settings(DATABASE_URL=way.url, SYNC_LISTEN_URL=way.url, MEWS_CLIENT="victim")
        own = {name: value for name, value in {**fleet.mirror.environment, **own}.items() if value != UNSET}
        async with its.running(own, tmp_path) as victim, fleet.replica(MEWS_CLIENT="heir"):
            await fleet.until_shared(HOTELS // 2, HOTELS // 2)
            await calls.until_pulled(fleet.vouchers, now_s())
            hotels, cut_s = await fleet.hotels_of(victim), now_s()
            its.set_link("down")
            for name in fleet.vouchers:
                fleet.queue(name, *(f"{name}-{n}" for n in range(3)))
            pulled = await calls.until_pulled(hotels, cut_s, but="victim")
            assert max(pulled.values()) < TAKEN_OVER_S * SLOWER
            await until_done(database_url)
            healed_s = now_s()
            assert calls.by_client(healed_s - 1)["victim"] == 0, "it asks nothing, although the API would answer"
            its.set_link("up")
            await fleet.until_shared(HOTELS // 2, HOTELS // 2)
            for name in fleet.vouchers:
                fleet.queue(name, f"{name}-after")
            await until_done(database_url)
            assert calls.taken_twice("victim", healed_s) == []
    assert fleet.made() == {f"{name}-{n}": 1 for name in fleet.vouchers for n in (0, 1, 2, "after")}
