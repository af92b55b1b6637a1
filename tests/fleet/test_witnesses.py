"""Each replica's witness of the database, which vouches for it where all are started anew (invariant 14)."""

import signal
from pathlib import Path

import psycopg
import pytest

from sync.connection.witness import Witness
from tests.fleet.replicas import served

MOVED_ON = "UPDATE sync.incarnation SET position = position + 5"
KNOWN = "SELECT id, position FROM sync.incarnation"


@pytest.mark.long
@pytest.mark.direct
async def test_a_replica_that_stops_knows_what_others_have_done_by_then(database_url: str, tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with served(database_url, tmp_path, hotels=1) as fleet:
        async with fleet.replica(SYNC_STATE_DIR=str(state)) as replica:
            await fleet.all_pulled()
            with psycopg.connect(database_url, autocommit=True) as another:
                another.execute(MOVED_ON)
            assert await replica.stopped(signal.SIGTERM) == 0
        with psycopg.connect(database_url) as connection:
            row = connection.execute(KNOWN).fetchone()
    assert row is not None
    assert Witness(state).read(row[0]) == row[1]
