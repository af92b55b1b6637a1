"""What the database refuses is no drift that an audit could mend; it is tried again, and told with its number."""

from collections.abc import Sequence

import pytest

from sync.audit.context import AuditSettings
from sync.audit.run import audit
from sync.core.errors import StatementRefused
from tests.support.flows import LOOK, REPAIR, later, numbered
from tests.support.guards import ALWAYS, BAD, CHECK, UNDO, aside, put, trigger
from tests.support.mirror import Mirror


async def filled(mirror: Mirror, guard: Sequence[str]) -> None:
    """A mirror of 20 codes, and one that was set aside."""
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, [*numbered(20, "GOOD"), BAD])
    await put(mirror, guard)
    await later(mirror)


@pytest.mark.long
@pytest.mark.parametrize("how", [LOOK, REPAIR], ids=["look", "repair"])
async def test_what_was_set_aside_is_no_drift(mirror: Mirror, how: AuditSettings) -> None:
    await filled(mirror, CHECK)
    for _ in range(2):
        report = await audit(mirror.connection, how)
        assert (report.drift, report.repaired, report.refused, report.is_clean) == (0, 0, 1, True)
        assert len(await aside(mirror)) == 1


@pytest.mark.long
async def test_what_is_taken_now_is_mended_and_forgotten(mirror: Mirror) -> None:
    await filled(mirror, CHECK)
    await put(mirror, UNDO)
    report = await audit(mirror.connection, REPAIR)
    assert (report.drift, report.repaired, report.refused) == (1, 1, 0)
    assert ((await mirror.compare()).is_equal, await aside(mirror)) == (True, [])


@pytest.mark.long
async def test_its_neighbours_are_mended(mirror: Mirror) -> None:
    codes = mirror.add_codes(mirror.add_voucher(), numbered(30))
    await later(mirror)
    await mirror.execute("UPDATE mews.voucher_codes SET value = 'WRONG ' || value")
    mirror.world.hard_delete_code(codes[3].id)
    bad = (codes[3].id, codes[5].id)
    await put(
        mirror,
        trigger(f"IF NEW.id IN ('{bad[0]}', '{bad[1]}') THEN RAISE EXCEPTION 'no %', NEW.value; END IF; RETURN NEW;"),
    )
    report = await audit(mirror.connection, REPAIR)
    assert (report.drift, report.repaired, report.refused) == (28, 28, 2)
    assert len(await aside(mirror)) == 2


SILENT = {
    "drops a new row": ("IF NEW.value = 'BAD' THEN RETURN NULL; END IF; RETURN NEW;", "drops the row"),
    "alters it": ("IF NEW.value = 'BAD' THEN NEW.value := 'BETTER'; END IF; RETURN NEW;", "alters value"),
}


@pytest.mark.long
@pytest.mark.parametrize(("body", "words"), SILENT.values(), ids=SILENT.keys())
async def test_what_a_trigger_changes_without_a_word_is_found_once(mirror: Mirror, body: str, words: str) -> None:
    await filled(mirror, trigger(body))
    for _ in range(2):
        report = await audit(mirror.connection, REPAIR)
        assert (report.drift, report.repaired, report.refused) == (0, 0, 1)
        assert await aside(mirror) == [f"00000: a trigger or rule of mews.voucher_codes {words}"]
    await put(mirror, UNDO)
    report = await audit(mirror.connection, REPAIR)
    assert (report.repaired, report.refused, await aside(mirror)) == (1, 0, [])
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_a_rule_that_lets_nothing_in_is_found(mirror: Mirror) -> None:
    await filled(mirror, ["CREATE RULE guard AS ON INSERT TO mews.voucher_codes DO INSTEAD NOTHING"])
    report = await audit(mirror.connection, REPAIR)
    assert (report.drift, report.repaired, report.refused) == (0, 0, 21)


@pytest.mark.long
async def test_what_refuses_every_row_fails_the_audit(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, numbered(20))
    await later(mirror)
    await mirror.execute("UPDATE mews.voucher_codes SET value = 'WRONG ' || value WHERE value LIKE '%1'")
    await put(mirror, ALWAYS["a trigger that always raises"])
    with pytest.raises(StatementRefused, match=r"refuses every UPDATE of mews\.voucher_codes \(P0001\)"):
        await audit(mirror.connection, REPAIR)
    assert await aside(mirror) == []
