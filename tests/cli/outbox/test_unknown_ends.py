"""Commands of the outbox that end without knowing whether what they were asked for is done, or not with all of it."""

import csv
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from tests.cli.conftest import Cli
from tests.migrations.helpers import execute, query
from tests.support.proxy import Proxy

from .helpers import VOUCHER, run_fed, values

UNKNOWN = "Error: it is not known whether this was done: see `voucher-sync outbox list` before you do it again"
QUEUE = b"voucher_code_outbox"
KEEPS = (
    "CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS "
    "$$ BEGIN RETURN NULL; END $$",
    "CREATE TRIGGER a_first BEFORE UPDATE ON mews.voucher_code_outbox "
    "FOR EACH ROW WHEN (OLD.value = 'KEPT') EXECUTE FUNCTION public.keep()",
)


@pytest.mark.direct
@pytest.mark.parametrize("is_done", [True, False])
async def test_codes_that_may_be_queued_are_not_lost(
    cli: Cli, database_url: str, tmp_path: Path, is_done: bool
) -> None:
    file = tmp_path / "codes.csv"
    asked = ("outbox", "generate", "--voucher", VOUCHER, "--pattern", "XMAS-????????", "--count", "5")
    async with Proxy(database_url).served() as proxy:
        proxy.cut_at_commit(QUEUE, is_answered=is_done)
        ended = await cli(*asked, "--output", str(file), settings={"DATABASE_URL": proxy.url})
    made = [row["value"] for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines())]
    assert (ended.code, ended.stdout, UNKNOWN in ended.stderr) == (1, "", True)
    assert f"{file} has the codes that are there if it was" in ended.stderr
    assert (len(made), values(database_url)) == (5, made if is_done else [])


async def test_codes_that_are_queued_are_not_lost_to_a_ctrl_c(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "codes.csv"
    asked = ("outbox", "generate", "--voucher", VOUCHER, "--pattern", "XMAS-????????", "--count", "5")
    with psycopg.connect(database_url) as somebody:
        somebody.execute("LOCK TABLE sync.caught_up")  # once they are queued, it asks whether a daemon is at work
        queued: LiteralString = "SELECT id FROM mews.voucher_code_outbox"
        ended = await run_fed(
            *asked, "--output", str(file), stdin=b"", url=database_url, directory=tmp_path, interrupt_in=queued
        )
    made = [row["value"] for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines())]
    assert (ended.code, ended.stdout, len(made)) == (130, "", 5)
    assert f"{UNKNOWN.replace('Error', 'Note')}, once the database answers; {file} has the codes" in ended.stderr
    assert values(database_url) == made


@pytest.mark.long
@pytest.mark.direct
async def test_a_change_that_may_be_queued_is_told_as_such(cli: Cli, database_url: str, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("value\nB\n", encoding="utf-8")
    add, load = ("add", "A"), ("import", str(tmp_path / "new.csv"))
    async with Proxy(database_url).served() as proxy:
        for name, argument in (add, load, ("cancel", "--all")):
            proxy.cut_at_commit(QUEUE, is_answered=True)
            ended = await cli("outbox", name, "--voucher", VOUCHER, argument, settings={"DATABASE_URL": proxy.url})
            assert (ended.code, ended.stdout, UNKNOWN in ended.stderr) == (1, "", True)
    assert query(database_url, "SELECT value, status FROM mews.voucher_code_outbox ORDER BY id") == [
        ("A", "cancelled"),
        ("B", "cancelled"),
    ]


@pytest.mark.long
@pytest.mark.parametrize("of_voucher", [(), ("--voucher", VOUCHER)])
async def test_what_all_does_not_move_is_told(cli: Cli, database_url: str, of_voucher: tuple[str, ...]) -> None:
    settings = {"DATABASE_URL": database_url}
    for value in ("KEPT", "FREE"):
        assert (await cli("outbox", "add", "--voucher", VOUCHER, value, settings=settings)).code == 0
    for statement in KEEPS:
        execute(database_url, statement)
    ended = await cli("outbox", "cancel", "--all", *of_voucher, settings=settings)
    assert (ended.code, ended.stdout) == (1, "1 row is cancelled.\n")
    assert "Row 1 stays: something on the table of the outbox keeps this row as it is" in ended.stderr
