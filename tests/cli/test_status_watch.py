"""`voucher-sync status --watch`: at a terminal, in the same place, until Ctrl-C."""

import re
from pathlib import Path

import psycopg
import pytest

from tests.support.terminal import INTERRUPT, terminal

from .conftest import Cli

CLEAN_SCREEN = "\x1b[?1049h"
"""The screen beside the one with the shell's lines, which are there again in the end."""

SHELLS_SCREEN, SHOWN_CURSOR = "\x1b[?1049l", "\x1b[?25h"

LINES_OF_A_TERMINAL = 25
"""Of one that does not say how large it is."""


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


async def test_where_no_cursor_can_be_moved_it_is_printed_again_and_again(database_url: str, tmp_path: Path) -> None:
    settings = {"DATABASE_URL": database_url, "TERM": "dumb"}
    async with terminal("status", "--watch", settings=settings, directory=tmp_path) as shown:
        await shown.until("Nothing has been mirrored yet")
        shown.type(INTERRUPT)
        ended = await shown.end()
    assert (ended.code, "\x1b" in ended.stdout) == (0, False)


async def test_a_sigterm_leaves_the_terminal_as_it_was(database_url: str, tmp_path: Path) -> None:
    async with terminal("status", "--watch", settings={"DATABASE_URL": database_url}, directory=tmp_path) as shown:
        await shown.until("Nothing has been mirrored yet")
        shown.terminate()
        ended = await shown.end()
    assert (ended.code, ended.stdout.count(SHELLS_SCREEN), ended.stdout.count(SHOWN_CURSOR)) == (0, 1, 1)


@pytest.mark.long
async def test_of_a_list_that_is_longer_than_the_screen_it_says_how_much_is_left_out(
    database_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO sync.connections (name, state, heartbeat_at, caught_up_as_of) "
            "SELECT 'hotel-' || n, 'ok', now(), now() FROM generate_series(1, 40) AS n"
        )
    async with terminal("status", "--watch", settings={"DATABASE_URL": database_url}, directory=tmp_path) as shown:
        await shown.until("Ctrl-C ends it.")
        shown.type(INTERRUPT)
        ended = await shown.end()
    screen = ended.stdout.partition(CLEAN_SCREEN)[2].partition("Ctrl-C")[0]
    listed = {line.split()[0] for line in screen.splitlines() if line.startswith("hotel-")}
    told = re.search(r"(\d+) more lines", screen)
    assert told is not None, screen
    assert len(listed) + int(told[1]) > 40
    assert "All 40 connections work" in screen
    assert len(screen.splitlines()) <= LINES_OF_A_TERMINAL


@pytest.mark.long
async def test_it_goes_with_nothing_that_is_for_scripts(cli: Cli, database_url: str) -> None:
    ended = await cli("status", "--watch", "--json", settings={"DATABASE_URL": database_url})
    assert (ended.code, "--watch is for people" in ended.stderr) == (2, True)
