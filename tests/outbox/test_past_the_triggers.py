"""What was queued while the triggers did not fire, as by a replication's worker: it keeps no other change back."""

import pytest
from sqlalchemy import text

from sync.postgres.engine import transaction
from tests.cli.conftest import SHOWN_SOON, Cli, cli, loaded  # noqa: F401 - fixtures
from tests.support.mirror import Mirror
from tests.support.outbox import Outbox, active, look_again

UNKNOWN = (
    "status = 'uncertain', uncertain_because = 'unknown', attempts = 1, connection = 'default', "
    "attempt_id = gen_random_uuid(), sent_at = now()"
)


async def queue(mirror: Mirror, change: str) -> None:
    """Queues an add, changes it past the triggers, and queues another one."""
    (voucher_id,) = mirror.world.vouchers
    add = "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', :voucher, :value)"
    await mirror.execute(add, voucher=voucher_id, value="ODD")
    async with transaction(mirror.connection.engine) as tx:
        await tx.execute(text("SET LOCAL session_replication_role = replica"))
        await tx.execute(text(f"UPDATE mews.voucher_code_outbox SET {change}"))
    await mirror.execute(add, voucher=voucher_id, value="USUAL")


@pytest.mark.long
@pytest.mark.parametrize(
    "change",
    [
        "validity_end_utc = 'infinity'",
        "validity_start_utc = '0044-03-15 BC'",
        "validity_end_utc = '20000-01-01'",
        "created_at = '-infinity'",
        "next_attempt_at = 'infinity'",
    ],
)
async def test_an_instant_that_python_cannot_tell_stops_nothing_and_is_shown(
    cli: Cli,  # noqa: F811 - the fixture
    database_url: str,
    change: str,
) -> None:
    mirror = Mirror(database_url)
    mirror.add_voucher()
    async with mirror.opened():
        settings = mirror.environment | SHOWN_SOON
        assert (await cli("once", settings=settings)).code == 0  # else what is older than it is another database's
        await queue(mirror, change)
        ended = await cli("once", settings=settings)
        assert (ended.code, ended.stderr.count("Error")) == (0, 0), ended.stderr
        rows = await mirror.rows("SELECT status FROM mews.voucher_code_outbox ORDER BY id")
        assert [row["status"] for row in rows] == ["pending" if "next" in change else "done", "done"]
        assert (await cli("outbox", "list", settings=settings)).code == 0
        assert (await cli("status", settings=settings)).code == 0


@pytest.mark.parametrize("is_made", [True, False])
async def test_what_says_not_when_it_was_sent_is_looked_up_from_when_it_was_queued(
    mirror: Mirror, outbox: Outbox, *, is_made: bool
) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await queue(mirror, UNKNOWN)
    if is_made:
        mirror.add_codes(voucher, ["ODD"], days_old=0)
    await look_again(mirror, outbox)
    assert (await outbox.statuses())[0] == ("done" if is_made else "pending")
    await outbox.refresh()
    await outbox.pusher.push()
    assert await outbox.statuses() == ["done", "done"]
    assert set(active(mirror).values()) == {1}
