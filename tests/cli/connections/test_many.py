"""Commands work for every connection that is at work, and one that fails is named and stops no other."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli
from tests.migrations.helpers import execute, query
from tests.support.mirror import Mirror
from tests.support.two_tokens import KEY

THROUGH = "SELECT connection, complete_through FROM mews.connection_coverage ORDER BY connection"
MORE = """
INSERT INTO sync.connections (name, state, origin, platform_address, access_token, added_at)
SELECT 'airport ' || n, 'ok', 'command', 'https://api.mews.com', 'nonsense', now() FROM generate_series(1, 30) AS n
"""
TOKENS = {"lake": "the-token-of-lake", "hill": "the-token-of-hill"}


@pytest.fixture
async def settings(cli: Cli, mirror: Mirror, tmp_path: Path) -> dict[str, str]:
    """Two stored connections beside the one of the environment, each with a hotel and a code of its own."""
    async with mirror.served():
        port, address = mirror.port, mirror.address
    settings = mirror.environment | {"SYNC_SECRET_KEY": KEY, "MEWS_PLATFORM_ADDRESS": address}
    for name, token in TOKENS.items():
        hotel = mirror.world.add_enterprise(f"Hotel {name}")
        service = mirror.world.add_service(hotel.id, "Stay")
        mirror.add_codes(mirror.world.add_voucher(service.id, "V", created_utc=mirror.clock()), [name], days_old=0)
        mirror.world.add_token(token, name=name, enterprise_ids=[hotel.id])
        (tmp_path / name).write_text(token, encoding="utf-8")
        assert (await cli("connections", "add", name, "--access-token-file", name, settings=settings)).code == 0
    mirror.clock.advance(timedelta(seconds=1))  # windows end with whole seconds, and all this may take less
    settings["port"] = str(port)
    return settings


@pytest.mark.long
async def test_a_cycle_is_each_connection_s(cli: Cli, mirror: Mirror, settings: dict[str, str]) -> None:
    async with mirror.served(port=int(settings.pop("port"))):
        told = json.loads((await cli("once", "--json", settings=settings)).stdout)
        assert (told["ok"], told["connections"]) == (True, {"default": True, "hill": True, "lake": True})
        owners = query(mirror.database_url, "SELECT connection, count(*) FROM mews.voucher_codes GROUP BY 1 ORDER BY 1")
        assert owners == [("default", 3), ("hill", 1), ("lake", 1)]
        audited = json.loads((await cli("audit", "--json", settings=settings)).stdout)
        assert (audited["ok"], len(audited["vouchers"])) == (True, 3)
        one = await cli("once", "--connection", "lake", "--json", settings=settings)
        assert (one.code, "connections" in json.loads(one.stdout)) == (0, False)


@pytest.mark.long
async def test_a_cycle_without_news_notes_how_far_each_came(cli: Cli, mirror: Mirror, settings: dict[str, str]) -> None:
    reached: list[Any] = []
    async with mirror.served(port=int(settings.pop("port"))):
        for _ in range(2):
            assert (await cli("once", settings=settings)).code == 0
            reached.append(query(mirror.database_url, THROUGH))
            mirror.clock.advance(timedelta(seconds=1))  # windows end with whole seconds, and a cycle may take less
    assert [name for (name, before), (_, after) in zip(*reached, strict=True) if after > before] == [
        "default",
        "hill",
        "lake",
    ]


@pytest.mark.long
async def test_one_that_fails_is_named_and_stops_no_other(cli: Cli, mirror: Mirror, settings: dict[str, str]) -> None:
    del mirror.world.tokens[TOKENS["lake"]]
    async with mirror.served(port=int(settings.pop("port"))):
        ended = await cli("once", "--json", settings=settings)
        assert (ended.code, json.loads(ended.stdout)["connections"]["hill"]) == (1, True)
        assert "Error: connection lake: " in ended.stderr
        assert "connection hill" not in ended.stderr
        checked = await cli("check", settings=settings)
        assert (checked.code, "WRONG lake: credentials" in checked.stdout) == (1, True)
        assert "ok    hill: credentials" in checked.stdout
        assert "`voucher-sync connections rotate lake` gives it another token" in " ".join(checked.stdout.split())
        of_stored = [one for one in re.split(r"\n(?=\S)", checked.stdout) if "default: " not in one]
        assert not [one for one in of_stored if "MEWS_ACCESS_TOKEN" in one]
        only = await cli("check", "--connection", "hill", settings=settings)
        assert (only.code, "lake" in only.stdout) == (0, False)


@pytest.mark.long
async def test_of_more_than_are_tried_those_that_fail_are(cli: Cli, mirror: Mirror, settings: dict[str, str]) -> None:
    del mirror.world.tokens[TOKENS["lake"]]
    execute(mirror.database_url, MORE)
    execute(mirror.database_url, "UPDATE sync.connections SET state = 'failing', error = 'x' WHERE name = 'lake'")
    async with mirror.served(port=int(settings.pop("port"))):
        checked = await cli("check", settings=settings)
    assert "WRONG lake: credentials: enterprises/getAll: not authorised (401)" in checked.stdout
    assert "more are not tried" in checked.stdout


@pytest.mark.long
async def test_one_whose_token_no_key_reads_stops_no_other(cli: Cli, mirror: Mirror, settings: dict[str, str]) -> None:
    execute(mirror.database_url, "UPDATE sync.connections SET access_token = 'nonsense' WHERE name = 'lake'")
    async with mirror.served(port=int(settings.pop("port"))):
        ended = await cli("once", settings=settings)
    assert (ended.code, "Error: connection lake: no key of SYNC_SECRET_KEY reads" in ended.stderr) == (1, True)
    assert "2 of 3 connections succeeded." in ended.stdout


@pytest.mark.long
async def test_stored_ones_need_none_of_the_environment(cli: Cli, mirror: Mirror, settings: dict[str, str]) -> None:
    del settings["MEWS_ACCESS_TOKEN"]
    async with mirror.served(port=int(settings.pop("port"))):
        told = json.loads((await cli("once", "--json", settings=settings)).stdout)
    assert told["connections"] == {"hill": True, "lake": True}


@pytest.mark.long
async def test_a_paused_one_is_left_out_and_told_where_it_is_named(
    cli: Cli, mirror: Mirror, settings: dict[str, str]
) -> None:
    del settings["MEWS_ACCESS_TOKEN"]
    assert (await cli("connections", "pause", "lake", settings=settings)).code == 0
    async with mirror.served(port=int(settings.pop("port"))):
        one = await cli("once", settings=settings)
        assert (one.code, one.stdout.startswith("1 voucher,")) == (0, True)
        named = await cli("once", "--connection", "lake", settings=settings)
        assert (named.code, "`voucher-sync connections resume lake` first" in named.stderr) == (1, True)
        await cli("connections", "pause", "hill", settings=settings)
        none = await cli("once", settings=settings)
        assert (none.code, "all of them are paused" in none.stderr) == (1, True)


@pytest.mark.long
async def test_values_are_looked_for_with_the_token_of_the_connection_that_is_named(
    cli: Cli, mirror: Mirror, settings: dict[str, str], tmp_path: Path
) -> None:
    del settings["MEWS_ACCESS_TOKEN"]
    (tmp_path / "codes.csv").write_text("value\nlake\nNEW\n", encoding="utf-8")
    imported = ("outbox", "import", "codes.csv", "--voucher", "V", "--unique", "portfolio", "--dry-run")
    async with mirror.served(port=int(settings.pop("port"))):
        assert (await cli("once", "--connection", "hill", settings=settings)).code == 0
        unnamed = await cli(*imported, settings=settings)
        assert (unnamed.code, "name it with --connection" in unnamed.stderr) == (2, True)
        of_hill = await cli(*imported, "--connection", "hill", settings=settings)
        assert (of_hill.code, "2 codes would be queued" in of_hill.stdout) == (0, True), of_hill
        of_lake = await cli(*imported, "--connection", "lake", settings=settings)
        assert (of_lake.code, "line 2: " in of_lake.stderr) == (1, True)


async def test_a_database_that_refuses_to_tell_of_the_others_is_no_success_without_them(
    cli: Cli, mirror: Mirror, settings: dict[str, str]
) -> None:
    execute(
        mirror.database_url,
        "INSERT INTO sync.connections (name, state, removed_at) VALUES ('default', 'ok', now())",
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'",
        "CREATE TRIGGER refuse BEFORE UPDATE ON sync.connections FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    async with mirror.served(port=int(settings.pop("port"))):
        ended = await cli("once", settings=settings)
    assert (ended.code, "in function refuse" in ended.stderr) == (1, True), ended
