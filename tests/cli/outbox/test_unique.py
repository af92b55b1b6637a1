"""`voucher-sync outbox import --unique portfolio`: no value that exists anywhere in what the token sees."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sync.demo.simulator import Operation, Status, Voucher
from tests.cli.conftest import Cli
from tests.cli.outbox.helpers import query, values, write
from tests.support.flows import numbered
from tests.support.mirror import ACCESS_TOKEN, Mirror
from tests.support.process import Ended
from tests.support.users import login


@pytest.fixture
def portfolio(database_url: str) -> Mirror:
    """Two hotels under one token; a service of the second cannot carry vouchers."""
    mirror = Mirror(database_url)
    other = mirror.world.add_enterprise("The other hotel")
    mirror.world.add_service(other.id, "Breakfast", carries_vouchers=False)
    mirror.world.add_token(ACCESS_TOKEN, name="token", enterprise_ids=[mirror.hotel.id, other.id], portfolio=True)
    return mirror


def elsewhere(mirror: Mirror) -> Voucher:
    """A voucher of the second hotel."""
    (other,) = (one for one in mirror.world.enterprises.values() if one.id != mirror.hotel.id)
    return mirror.world.add_voucher(mirror.world.add_service(other.id, "Stay").id, "Winter")


async def unique(cli: Cli, mirror: Mirror, voucher: Voucher, file: Path, asked: Sequence[str], *words: str) -> Ended:
    write(file, "\n".join(["value", *asked]))
    named = ("--voucher", str(voucher.id), "--unique", "portfolio")
    return await cli("outbox", "import", str(file), *named, *words, settings=mirror.environment)


def asked_for(mirror: Mirror) -> list[int]:
    """How many values each search of the API was for."""
    bodies = [one.body or {} for one in mirror.requests(Operation.GET_VOUCHERS)]
    return [len(body["VoucherCodeValues"]) for body in bodies if "VoucherCodeValues" in body]


@pytest.mark.long
async def test_what_exists_or_is_queued_anywhere_is_refused_with_its_line(
    cli: Cli, portfolio: Mirror, tmp_path: Path
) -> None:
    voucher, winter = portfolio.add_voucher(), elsewhere(portfolio)
    portfolio.add_codes(winter, ["ACTIVE"])
    (gone,) = portfolio.add_codes(winter, ["GONE"])
    portfolio.world.delete_code(gone.id)
    portfolio.clock.advance(timedelta(seconds=2))  # a pull ends before the API's present second
    async with portfolio.opened():
        await portfolio.once()
        portfolio.world.add_codes(winter.id, ["UNSEEN", "UNSEEN TOO"])
        query(
            portfolio.database_url,
            "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', %s, 'QUEUED')",
            winter.id,
        )
        asked = ["NEW-1", "ACTIVE", "GONE", "UNSEEN", "QUEUED", *numbered(20), "UNSEEN TOO"]
        refused = await unique(cli, portfolio, voucher, tmp_path / "codes.csv", asked)
        assert (refused.code, refused.stdout) == (1, "")
        assert refused.stderr.splitlines() == [
            f"line 3: value: exists already, as an active code of voucher {winter.id}",
            f"line 4: value: exists already, as a deleted code of voucher {winter.id}",
            "line 5: value: exists already: the API finds it, and the mirror does not show it yet",
            f"line 6: value: is queued already, as row 1 of the outbox, for voucher {winter.id}",
            "line 27: value: exists already: the API finds it, and the mirror does not show it yet",
            "Error: nothing is queued: 5 bad lines; --skip-bad would queue the other 21",
        ]
        assert values(portfolio.database_url) == ["QUEUED"]
        skipped = await unique(cli, portfolio, voucher, tmp_path / "codes.csv", asked, "--skip-bad")
        assert (skipped.code, skipped.stdout) == (0, "21 codes queued; 5 bad lines skipped.\n")
        assert values(portfolio.database_url) == ["QUEUED", "NEW-1", *numbered(20)]


@pytest.mark.long
async def test_a_value_for_two_vouchers_of_one_file_is_refused(cli: Cli, portfolio: Mirror, tmp_path: Path) -> None:
    voucher, winter = portfolio.add_voucher(), elsewhere(portfolio)
    async with portfolio.opened():
        lines = [f"A;{voucher.id}", f"A;{winter.id}"]
        write(tmp_path / "codes.csv", "\n".join(["value;voucher_id", *lines]))
        call = ("outbox", "import", str(tmp_path / "codes.csv"), "--unique", "portfolio")
        refused = await cli(*call, settings=portfolio.environment)
    assert refused.code == 1
    assert refused.stderr.splitlines()[0] == "line 3: value: line 2 has the same, for another voucher"


@pytest.mark.long
async def test_thousands_that_are_new_take_a_call_for_each_thousand(
    cli: Cli, portfolio: Mirror, tmp_path: Path
) -> None:
    voucher = portfolio.add_voucher()
    elsewhere(portfolio)
    async with portfolio.opened():
        asked = numbered(2500)
        ended = await unique(cli, portfolio, voucher, tmp_path / "codes.csv", asked, "--dry-run")
    assert (ended.code, values(portfolio.database_url)) == (0, [])
    assert asked_for(portfolio)[-3:] == [1000, 1000, 500]
    assert set(asked_for(portfolio)[:-3]) == {1}


@pytest.mark.long
@pytest.mark.parametrize("too_much", [Status(408, "Transaction has timed out"), Status(413)], ids=str)
async def test_what_is_too_much_for_the_api_in_one_call_is_asked_for_in_smaller_ones(
    cli: Cli, portfolio: Mirror, tmp_path: Path, too_much: Status
) -> None:
    voucher, winter = portfolio.add_voucher(), elsewhere(portfolio)

    async def on_request(_operation: Operation, body: Mapping[str, Any]) -> None:
        if len(body.get("VoucherCodeValues", ())) == 1000:
            portfolio.simulator.faults.script(Operation.GET_VOUCHERS, too_much, times=2)

    async with portfolio.opened():
        portfolio.world.add_codes(winter.id, ["CODE-1700"])
        portfolio.simulator.on_request = on_request
        refused = await unique(cli, portfolio, voucher, tmp_path / "codes.csv", numbered(2500))
    assert refused.stderr.splitlines() == [
        "line 1702: value: exists already: the API finds it, and the mirror does not show it yet",
        "Error: nothing is queued: 1 bad line; --skip-bad would queue the other 2,499",
    ]


@pytest.mark.long
async def test_many_that_are_taken_are_read_off_the_codes_of_the_vouchers_that_have_them(
    cli: Cli, portfolio: Mirror, tmp_path: Path
) -> None:
    voucher, winter = portfolio.add_voucher(), elsewhere(portfolio)
    async with portfolio.opened():
        asked = numbered(1500)
        portfolio.world.add_codes(winter.id, asked[::5])
        refused = await unique(cli, portfolio, voucher, tmp_path / "codes.csv", asked)
    assert "Error: nothing is queued: 300 bad lines; --skip-bad would" in refused.stderr
    assert [number for number in asked_for(portfolio) if number > 1] == [1000, 800, 400]
    assert len(portfolio.requests(Operation.GET_CODES)) == 1


@pytest.mark.long
async def test_where_codes_may_not_be_listed_each_is_asked_for(cli: Cli, portfolio: Mirror, tmp_path: Path) -> None:
    voucher, winter = portfolio.add_voucher(), elsewhere(portfolio)
    portfolio.world.permit(ACCESS_TOKEN, set(Operation) - {Operation.GET_CODES})
    async with portfolio.opened():
        portfolio.world.add_codes(winter.id, ["TAKEN"])
        refused = await unique(cli, portfolio, voucher, tmp_path / "codes.csv", ["NEW", "TAKEN"])
    assert refused.stderr.splitlines()[0].startswith("line 3: value: exists already: the API finds it")


@pytest.mark.long
async def test_what_lies_deep_in_a_large_voucher_is_asked_for_until_it_stands_alone(
    cli: Cli, portfolio: Mirror, tmp_path: Path
) -> None:
    voucher, winter = portfolio.add_voucher(), elsewhere(portfolio)
    async with portfolio.opened():
        portfolio.add_codes(winter, ["CODE-1700"], days_old=2)
        portfolio.add_codes(winter, [f"OTHER-{number}" for number in range(3000)])
        refused = await unique(cli, portfolio, voucher, tmp_path / "codes.csv", numbered(2500))
    assert "Error: nothing is queued: 1 bad line; --skip-bad would" in refused.stderr
    assert len(portfolio.requests(Operation.GET_CODES)) == 1


@pytest.mark.long
@pytest.mark.parametrize("is_writer", [False, True])
async def test_its_calls_are_of_the_budget_unless_its_user_sees_nothing_of_it(
    cli: Cli, portfolio: Mirror, tmp_path: Path, *, is_writer: bool
) -> None:
    voucher = portfolio.add_voucher()
    elsewhere(portfolio)
    async with portfolio.opened():
        write(tmp_path / "codes.csv", "value\nNEW")
        call = ("outbox", "import", str(tmp_path / "codes.csv"), "--voucher", str(voucher.id), "--unique", "portfolio")
        with login(portfolio.database_url, member_of="mews_writer") as url:
            database = {"DATABASE_URL": url} if is_writer else {}
            ended = await cli(*call, "--dry-run", settings=portfolio.environment | database)
        assert ended.code == 0, ended.stderr
        written = await portfolio.rows("SELECT reserved, cardinality(ages_ms) AS calls FROM sync.reservations")
    assert written == ([] if is_writer else [{"reserved": 0, "calls": len(portfolio.simulator.requests)}])


@pytest.mark.long
async def test_codes_for_a_hotel_that_the_token_does_not_see_are_refused(
    cli: Cli, portfolio: Mirror, tmp_path: Path
) -> None:
    voucher, winter = portfolio.add_voucher(), elsewhere(portfolio)
    portfolio.world.add_token("of-one-hotel", name="one", enterprise_ids=[portfolio.hotel.id])
    async with portfolio.opened():
        await portfolio.once()
        portfolio.add_codes(winter, ["TAKEN"], days_old=0)
        write(tmp_path / "codes.csv", f"value;voucher_id\nTAKEN;{winter.id}\nNEW;{voucher.id}")
        call = ("outbox", "import", str(tmp_path / "codes.csv"), "--unique", "portfolio")
        refused = await cli(*call, settings=portfolio.environment | {"MEWS_ACCESS_TOKEN": "of-one-hotel"})
    assert (refused.code, values(portfolio.database_url)) == (1, [])
    assert refused.stderr.splitlines() == [
        "line 2: voucher_id: is of a hotel that this token does not see, so what exists there is not known",
        "Error: nothing is queued: 1 bad line; --skip-bad would queue the other 1",
    ]


@pytest.mark.long
async def test_the_api_says_what_is_the_same(cli: Cli, portfolio: Mirror, tmp_path: Path) -> None:
    voucher = portfolio.add_voucher()
    portfolio.add_codes(voucher, ["summer"])
    portfolio.simulator.behaviour.values_any_case = True
    async with portfolio.opened():
        refused = await unique(cli, portfolio, voucher, tmp_path / "codes.csv", ["SUMMER", "WINTER"])
    assert (refused.code, refused.stderr.splitlines()[0].partition(":")[0]) == (1, "line 2")


@pytest.mark.long
async def test_without_tokens_or_an_api_nothing_is_queued(cli: Cli, portfolio: Mirror, tmp_path: Path) -> None:
    voucher = portfolio.add_voucher()
    async with portfolio.served():
        pass
    away = await unique(cli, portfolio, voucher, tmp_path / "codes.csv", ["A"])
    assert away.code == 1
    assert "the API cannot be reached" in away.stderr
    call = ("outbox", "import", str(tmp_path / "codes.csv"), "--voucher", str(voucher.id), "--unique", "portfolio")
    ended = await cli(*call, settings={"DATABASE_URL": portfolio.database_url})
    assert ended.code != 0
    assert "MEWS_CLIENT_TOKEN is not set" in ended.stderr
    assert values(portfolio.database_url) == []
