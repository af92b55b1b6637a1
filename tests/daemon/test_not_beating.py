"""A replica that cannot show that it lives says so, also where it has no connection whose jobs would."""

from pathlib import Path

import pytest

from tests.migrations.helpers import execute
from tests.support.daemon import UNSET, running
from tests.support.mirror import Mirror
from tests.support.two_tokens import KEY

STORED_ONLY = {"MEWS_ACCESS_TOKEN": UNSET, "SYNC_SECRET_KEY": KEY}
NOWHERE = "postgresql://someone@127.0.0.1:1/vouchers"


async def test_a_database_that_is_away_is_told_once(mirror: Mirror, tmp_path: Path) -> None:
    async with running(mirror, tmp_path, DATABASE_URL=NOWHERE, **STORED_ONLY) as daemon:
        told = await daemon.event("not_beating")
        assert (told["level"], "does not answer" in told["error"]) == ("warning", True)


@pytest.mark.long
async def test_what_refuses_its_sign_of_life_is_named_until_it_is_gone(mirror: Mirror, tmp_path: Path) -> None:
    execute(
        mirror.database_url,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'",
        "CREATE TRIGGER refuse BEFORE INSERT ON sync.daemons FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    async with running(mirror, tmp_path, **STORED_ONLY) as daemon:
        assert "refuse" in (await daemon.event("not_beating"))["error"]
        execute(mirror.database_url, "DROP TRIGGER refuse ON sync.daemons")
        await daemon.event("beating_again")
        assert daemon.count("not_beating") == 1
