"""A migration that dies anywhere is taken up by the next one, which ends where an undisturbed one does."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress

import pytest

from sync.core.errors import DatabaseError
from sync.postgres.migrations import migrate
from tests.migrations.helpers import head
from tests.migrations.old_database import OLDEST, kept, make_old, schema_of, work_as_before
from tests.support.postgres import database_of, new_database
from tests.support.proxy import Proxy

pytestmark = [pytest.mark.long, pytest.mark.direct]

ENDS_A_STEP = (b"\x0bCOMMIT", b" CONCURRENTLY ")
"""What is done by these stands by itself; whatever is between two of them is undone as a whole where it breaks off."""
NEWEST, OTHERS = 8, 12
"""All of the last steps are tried, which no release has taken yet, and so many of those before and of all else."""
SHARES = 2
"""Parts of it that two workers can try side by side."""


@pytest.fixture(scope="module")
def old(server_url: str) -> Iterator[str]:
    """Name of a database of the oldest revision, with rows."""
    with new_database(server_url) as url:
        make_old(url)
        yield database_of(url)


async def statements_of_all(server_url: str, old: str) -> tuple[list[bytes], str]:
    """What a migration says to the database when nothing disturbs it, and the schema that it ends with."""
    said = list[bytes]()
    with new_database(server_url, template=old) as url:
        before = kept(url)
        async with Proxy(url).served() as proxy:
            proxy.on_statement = said.append
            assert await asyncio.to_thread(migrate, proxy.url) == (OLDEST, head())
        assert kept(url) == before
        work_as_before(url)
        return said, schema_of(url)


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("is_answered", [False, True], ids=["not begun", "done"])
async def test_wherever_its_line_breaks_the_next_one_ends_at_the_same_schema(
    server_url: str, old: str, share: int, is_answered: bool
) -> None:
    said, schema = await statements_of_all(server_url, old)
    steps = [number for number, one in enumerate(said, 1) if any(words in one for words in ENDS_A_STEP)]
    assert len(steps) > NEWEST + OTHERS
    chance = random.Random(0)
    others = chance.sample(sorted(set(range(1, len(said) + 1)) - set(steps)), OTHERS)
    tried = [*chance.sample(steps[:-NEWEST], OTHERS), *steps[-NEWEST:], *others]
    for number in sorted(tried)[share::SHARES]:
        with new_database(server_url, template=old) as url:
            before = kept(url)
            async with Proxy(url).served() as proxy:
                proxy.cut_at(number, is_answered=is_answered)
                with suppress(DatabaseError):
                    await asyncio.to_thread(migrate, proxy.url)
                assert proxy.was_cut.is_set()
            at = f"statement {number} of {len(said)}"
            work_as_before(url)
            assert kept(url) == before, at
            await asyncio.to_thread(migrate, url)
            assert (schema_of(url) == schema, kept(url) == before) == (True, True), at
            work_as_before(url)
