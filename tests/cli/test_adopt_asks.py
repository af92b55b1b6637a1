"""`voucher-sync adopt` at a terminal: it asks what becomes of the rest, and without an answer nothing is adopted."""

import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sync.core.plurals import plural
from sync.demo.simulator import Operation
from tests.cli.test_lost_commits import QUEUE, made, statuses
from tests.support.mirror import Mirror
from tests.support.outbox import A_WHILE
from tests.support.terminal import END_OF_INPUT, ENTER, INTERRUPT, Terminal, terminal

from .conftest import SHOWN_SOON, Cli

pytestmark = pytest.mark.long

ELSEWHERE = "UPDATE sync.incarnation SET database_oid = 1"
"""As in a restored database."""
QUESTION = "What becomes of them (release, cancel, keep) [keep]: "
INTERRUPTED = 130
STANDING, LEFT = ["NEW-1", "NEW-2"], ["NEW-3"]
FOUND = "2 changes were done already; 0 released, 0 cancelled; 1 add and 0 deletes stay held."


@pytest.fixture
async def restored(cli: Cli, mirror: Mirror) -> AsyncIterator[Mirror]:
    """A restored database with three adds queued, two of which were made since."""
    async with mirror.opened():
        assert (await cli("once", settings=mirror.environment)).code == 0
        (voucher,) = mirror.world.vouchers.values()
        await mirror.execute(QUEUE, voucher=voucher.id, values=STANDING + LEFT)
        await mirror.execute(ELSEWHERE)
        mirror.add_codes(voucher, STANDING, days_old=0)
        mirror.clock.advance(A_WHILE)
        yield mirror


async def what_stands(cli: Cli, mirror: Mirror) -> tuple[Counter[str], Any, int]:
    """The statuses of all changes, whether the database waits to be adopted, and how many adds were sent."""
    (status,) = json.loads((await cli("status", "--json", settings=mirror.environment)).stdout)
    return await statuses(mirror), status["gap"], len(mirror.requests(Operation.ADD_CODES))


async def asked(shown: Terminal) -> None:
    """It has said what it found, and asks."""
    await shown.until(QUESTION)
    assert FOUND in shown.shown
    await shown.is_read()


async def test_it_asks_and_does_it_also_where_nobody_reads_its_output(
    cli: Cli, restored: Mirror, tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    settings = restored.environment | SHOWN_SOON
    async with terminal("adopt", settings=settings, directory=tmp_path, output=writer) as shown:
        os.close(writer)
        await asked(shown)
        shown.type(f"cancel{ENTER}")
        ended = await shown.end()
    assert ended.code == 0
    assert await what_stands(cli, restored) == (Counter(done=2, cancelled=1), None, 0)


@pytest.mark.parametrize(
    ("answer", "becomes"), [("release", "pending"), ("cancel", "cancelled"), ("keep", "held"), ("", "held")]
)
async def test_what_is_answered_is_done(cli: Cli, restored: Mirror, tmp_path: Path, answer: str, becomes: str) -> None:
    async with terminal("adopt", settings=restored.environment | SHOWN_SOON, directory=tmp_path) as shown:
        await asked(shown)
        shown.type(answer + ENTER)
        ended = await shown.end()
    counts = Counter({becomes: len(LEFT)})
    held = plural(counts["held"], "add")
    says = f"{counts['pending']} released, {counts['cancelled']} cancelled; {held} and 0 deletes stay held"
    assert (ended.code, f"Adopted. {len(STANDING)} changes were done already; {says}." in ended.stdout) == (0, True), (
        ended.stdout
    )
    assert await what_stands(cli, restored) == ({"done": len(STANDING), becomes: len(LEFT)}, None, 0)
    await cli("once", settings=restored.environment)
    assert made(restored) == Counter(["A", "B", "C", *STANDING, *(LEFT if answer == "release" else [])])


@pytest.mark.parametrize("keys", [INTERRUPT, END_OF_INPUT, f"no{ENTER}{INTERRUPT}"], ids=["Ctrl-C", "Ctrl-D", "no"])
async def test_without_an_answer_nothing_is_adopted_or_sent(
    cli: Cli, restored: Mirror, tmp_path: Path, keys: str
) -> None:
    async with terminal("adopt", settings=restored.environment | SHOWN_SOON, directory=tmp_path) as shown:
        await asked(shown)
        for key in keys.partition(ENTER):
            shown.type(key)
            if key == ENTER:
                await shown.until(f"'no' is not one of 'release', 'cancel', 'keep'.\n{QUESTION}")
                await shown.is_read()
        ended = await shown.end()
    assert (ended.code, "Traceback" in ended.stdout, "Adopted" in ended.stdout) == (INTERRUPTED, False, False)
    await still_asked(cli, restored)


async def test_a_terminal_that_is_closed_answers_nothing(cli: Cli, restored: Mirror, tmp_path: Path) -> None:
    async with terminal("adopt", settings=restored.environment | SHOWN_SOON, directory=tmp_path) as shown:
        await asked(shown)
        shown.hang_up()
        assert (await shown.end()).code != 0
    await still_asked(cli, restored)


async def still_asked(cli: Cli, mirror: Mirror) -> None:
    """What was found done is, and all else waits as it did: nothing is sent, and adopting can begin anew."""
    waiting = ({"done": len(STANDING), "held": len(LEFT)}, "copy", 0)
    assert await what_stands(cli, mirror) == waiting
    refused = await cli("once", settings=mirror.environment)
    assert (refused.code, "voucher-sync adopt" in refused.stderr) == (1, True)
    assert await what_stands(cli, mirror) == waiting
    again = await cli("adopt", "--json", settings=mirror.environment | SHOWN_SOON)
    assert (again.code, json.loads(again.stdout)["released"]) == (0, len(LEFT))


async def test_a_script_that_has_a_terminal_is_not_asked(cli: Cli, restored: Mirror, tmp_path: Path) -> None:
    settings = restored.environment | SHOWN_SOON
    async with terminal("adopt", "--json", settings=settings, directory=tmp_path) as shown:
        ended = await shown.end()
    assert (ended.code, QUESTION in ended.stdout) == (0, False)
    assert await what_stands(cli, restored) == ({"done": len(STANDING), "pending": len(LEFT)}, None, 0)
