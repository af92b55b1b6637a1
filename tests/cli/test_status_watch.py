"""`voucher-sync status --watch`: at a terminal, in the same place, until Ctrl-C."""

from pathlib import Path

import psycopg
import pytest

from tests.support.terminal import INTERRUPT, terminal

from .conftest import Cli

CLEAN_SCREEN = "\x1b[?1049h"
"""The screen beside the one with the shell's lines, which are there again in the end."""


@pytest.mark.long
async def test_it_is_drawn_again_in_the_same_place_with_what_has_changed(database_url: str, tmp_path: Path) -> None:
    async with terminal("status", "--watch", settings={"DATABASE_URL": database_url}, directory=tmp_path) as shown:
        await shown.until("Nothing has been mirrored yet")
        with psycopg.connect(database_url) as connection:
            connection.execute(
                "INSERT INTO sync.connections (name, state, heartbeat_at, caught_up_as_of) "
                "VALUES ('default', 'ok', now(), now())"
            )
        await shown.until("The mirror is up to date")
        shown.type(INTERRUPT)
        ended = await shown.end()
    assert (ended.code, ended.stdout.count(CLEAN_SCREEN), "Traceback" in ended.stdout) == (0, 1, False)


@pytest.mark.long
async def test_it_goes_with_nothing_that_is_for_scripts(cli: Cli, database_url: str) -> None:
    ended = await cli("status", "--watch", "--json", settings={"DATABASE_URL": database_url})
    assert (ended.code, "--watch is for people" in ended.stderr) == (2, True)
