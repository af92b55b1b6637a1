"""Changes of which nothing can become until somebody mends what keeps them: `status` and the webhook tell of them."""

import pytest

from sync.alerts.conditions import Kind, conditions_of
from sync.demo.simulator import Close, Operation
from sync.postgres.engine import transaction
from sync.service import app
from sync.service.jobs import Jobs
from sync.service.status.load import load_overview
from sync.service.status.verdict import Level, judge
from tests.support.mirror import Mirror
from tests.support.outbox import Outbox


async def cycle(mirror: Mirror) -> Jobs:
    jobs = app.make_jobs(mirror.connection, mirror.settings(sync_settle_after_s=0.2, sync_lease_s=1))
    assert await jobs.discover()
    assert await jobs.pull_turn()
    await jobs.outbox.push_all()
    await mirror.beat(jobs)
    return jobs


async def told(mirror: Mirror) -> tuple[Level, list[tuple[str, bool]], list[Kind]]:
    async with transaction(mirror.connection.engine) as tx:
        overview = await load_overview(tx)
    verdict = judge(overview)
    parts = [note.text.partition("; the reason: ") for note in verdict.notes]
    notes = [(text, bool(reason)) for text, _, reason in parts]
    kinds = [condition.kind for one in overview.connections for condition in conditions_of(one)]
    return verdict.level, notes, kinds


STUCK = (Level.ATTENTION, [("1 change stuck until somebody mends what keeps them", True)], [Kind.STUCK])
WELL = (Level.OK, list[tuple[str, bool]](), list[Kind]())


@pytest.mark.long
@pytest.mark.parametrize("is_without_a_word", [False, True])
async def test_a_change_that_something_on_the_table_refuses(
    mirror: Mirror, outbox: Outbox, is_without_a_word: bool
) -> None:
    voucher = mirror.add_voucher()
    await mirror.once()
    await mirror.execute(
        "CREATE FUNCTION public.theirs() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS "
        f"$$ BEGIN {'RETURN NULL' if is_without_a_word else 'RAISE check_violation'}; END $$"
    )
    await mirror.execute(
        "CREATE TRIGGER theirs BEFORE UPDATE ON mews.voucher_code_outbox FOR EACH ROW "
        "WHEN (NEW.status = 'sending') EXECUTE FUNCTION public.theirs()"
    )
    await outbox.add(voucher, "NEW")
    await cycle(mirror)
    assert await told(mirror) == STUCK
    await mirror.execute("DROP TRIGGER theirs ON mews.voucher_code_outbox")
    await outbox.be_due()
    await cycle(mirror)
    assert (await told(mirror), await outbox.statuses()) == (WELL, ["done"])


@pytest.mark.sampled
@pytest.mark.parametrize(
    "does",
    ["RAISE check_violation", "RETURN NULL", "NEW.connection := NULL; RETURN NEW"],
    ids=["raises", "skips", "keeps"],
)
async def test_a_change_that_a_trigger_keeps_from_having_a_connection(
    mirror: Mirror, outbox: Outbox, does: str
) -> None:
    await outbox.add(mirror.add_voucher(), "NEW")
    await mirror.execute(
        "CREATE FUNCTION public.theirs() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS "
        f"$$ BEGIN {does}; END $$"
    )
    await mirror.execute(
        "CREATE TRIGGER theirs BEFORE UPDATE ON mews.voucher_code_outbox FOR EACH ROW "
        "WHEN (NEW.connection IS NOT NULL) EXECUTE FUNCTION public.theirs()"
    )
    jobs = await cycle(mirror)
    assert jobs.outbox.totals["refused"] == 1
    assert await told(mirror) == STUCK
    await mirror.execute("DROP TRIGGER theirs ON mews.voucher_code_outbox")
    await outbox.be_due()
    await cycle(mirror)
    assert (await told(mirror), await outbox.statuses()) == (WELL, ["done"])


@pytest.mark.long
async def test_a_change_whose_voucher_the_api_does_not_show_any_more(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await mirror.once()

    async def hide(operation: Operation, _body: object) -> None:
        if operation is Operation.ADD_CODES:
            mirror.world.vouchers.pop(voucher.id, None)

    await outbox.add(voucher, "NEW")
    mirror.simulator.faults.script(Operation.ADD_CODES, Close(processed=True))
    mirror.simulator.on_request = hide
    await cycle(mirror)
    assert (await outbox.statuses(), await told(mirror)) == (["uncertain"], STUCK)


@pytest.mark.long
async def test_a_change_that_waits_for_its_time_is_not_stuck(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await mirror.once()
    await outbox.add(voucher, "NEW")
    await mirror.execute("UPDATE mews.voucher_code_outbox SET not_before = now() + interval '1 hour'")
    await cycle(mirror)
    assert (await outbox.statuses(), await told(mirror)) == (["pending"], WELL)
