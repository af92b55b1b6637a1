"""Whether everything is right: at any moment what must always be, and all of it once everything has come to rest."""

from typing import Any
from uuid import UUID

from sqlalchemy import text

from sync.demo.comparison import COLUMNS
from sync.outbox.claims import as_daemon
from tests.daemon.stress import unfinished, waiting
from tests.simulation.daemon_process import DaemonProcess
from tests.simulation.simulation import Simulation
from tests.support.flows import a_day_passes_for_refusals, honest, note_caught_up
from tests.support.mirror import ACCESS_TOKEN, OVERLAP, Mirror
from tests.support.oracle import Oracle, consult

PATIENCE_PULLS = 300
"""So many pulls after the last fault, each of a fraction of a second, everything that was queued must have ended."""
PATIENCE_S = 30.0
"""For one of these pulls, and for an audit."""


async def always(simulation: Simulation) -> list[str]:
    """What is wrong and could not be at any moment."""
    daemons = (*simulation.daemons, *simulation.audits)
    return [
        *await honest(simulation.mirror, slack=OVERLAP, but=simulation.actors.blind),
        *(sentence for daemon in daemons for sentence in daemon.wrong),
        *simulation.mirror.simulator.violations,
    ]


async def at_rest(simulation: Simulation) -> list[str]:
    """Lets everything come to rest, and lists everything that is wrong then."""
    simulation.calm()
    await simulation.kill()
    await _let_no_wait_be_left(simulation.mirror)
    if restless := await _restless(simulation, await simulation.living()):
        return [f"the outbox never came to rest: {restless}", *map(str, await waiting(simulation.mirror))]
    await simulation.stop()
    return [
        *await _what_the_pull_missed(simulation),
        *await _what_the_audit_left(simulation),
    ]


async def _let_no_wait_be_left(mirror: Mirror) -> None:
    """What would be tried again within a minute or a day is tried at once."""
    await a_day_passes_for_refusals(mirror)
    async with as_daemon(mirror.connection.engine) as tx:
        await tx.execute(
            text("UPDATE mews.voucher_code_outbox SET next_attempt_at = now() WHERE next_attempt_at > now()")
        )


async def _restless(simulation: Simulation, daemon: DaemonProcess) -> str:
    """Why the outbox did not come to rest, or nothing, since it did."""
    for number in range(PATIENCE_PULLS):
        if not await daemon.pulled(PATIENCE_S):
            how = "ended" if daemon.is_over else f"took more than {PATIENCE_S:g} s for its next pull"
            return f"after {number} pulls the daemon {how}"
        if not await unfinished(simulation.mirror, simulation.actors.ours):
            return ""
    return f"{PATIENCE_PULLS} pulls were not enough"


async def _what_the_pull_missed(simulation: Simulation) -> list[str]:
    """After one more pull all that windows show by then is equal, and the outbox tells the truth of it."""
    mirror, blind = simulation.mirror, simulation.actors.blind
    mirror.clock.advance(OVERLAP / 2)
    await mirror.once()
    after = await consult(mirror)
    return [
        *after.untrue(),
        *await _unlike(mirror, after, "after a pull", blind),
        *(f"left of an attempt: {row}" for row in await mirror.rows("SELECT * FROM sync.attempts")),
    ]


async def _what_the_audit_left(simulation: Simulation) -> list[str]:
    """After one audit everything is equal, and only what the API does not have is missing."""
    mirror = simulation.mirror
    # What changed within the overlap is left to the pull.
    mirror.clock.advance(2 * OVERLAP)
    await note_caught_up(mirror, await mirror.once())
    wrong = []
    # The first one finishes what one that was killed has left, and looks at no voucher twice.
    for _ in range(1 + await _free_audits(mirror)):
        audit = await simulation.audit("--accept-loss")
        await audit.ended()
        wrong += audit.errors
    missing = await mirror.rows("SELECT id FROM mews.voucher_codes WHERE missing_since IS NOT NULL")
    unknown = {row["id"] for row in missing} - mirror.world.codes.truth.keys()
    return [
        *wrong,
        *await always(simulation),
        *await _unlike(mirror, await consult(mirror), "after an audit", unknown),
        *(f"{row['id']} is not missing" for row in missing if row["id"] not in unknown),
        *await _uncovered(mirror),
    ]


async def _free_audits(mirror: Mirror) -> int:
    """How many audits were left; whoever had them does so no longer."""
    return len(
        await mirror.rows("UPDATE sync.audits SET alive_until = now() WHERE finished_at IS NULL RETURNING connection")
    )


async def _unlike(mirror: Mirror, after: Oracle, when: str, but: set[UUID]) -> list[str]:
    """The codes that are not the same in the mirror and in the API, with their stories."""
    here = {row["id"]: _shown(row) for row in await mirror.rows("SELECT * FROM mews.voucher_codes")}
    there = {
        id_: _shown({name: getattr(code, name) for name in COLUMNS})
        for id_, code in mirror.world.codes_visible_to(ACCESS_TOKEN).items()
    }
    ids = [id_ for id_ in here.keys() | there.keys() if here.get(id_) != there.get(id_) and id_ not in but]
    found = []
    for id_ in ids:
        code = here.get(id_) or there[id_]
        story = after.story((code["voucher_id"], code["value"]))
        found.append(f"{when}, mirrored: {here.get(id_)}, in the API: {there.get(id_)}\n{story}")
    return found


def _shown(code: Any) -> dict[str, Any]:
    return {name: code[name] for name in COLUMNS}


async def _uncovered(mirror: Mirror) -> list[str]:
    """Vouchers of which `mews.coverage` does not say that all is mirrored, up to their newest change and beyond."""
    rows = {row["voucher_id"]: row for row in await mirror.rows("SELECT * FROM mews.coverage")}
    newest: dict[UUID, Any] = {}
    for code in mirror.world.codes_visible_to(ACCESS_TOKEN).values():
        if code.updated_utc:
            newest[code.voucher_id] = max(code.updated_utc, newest.get(code.voucher_id, code.updated_utc))
    return [
        f"{voucher_id} changed at {instant}, and coverage says {rows.get(voucher_id)}"
        for voucher_id, instant in newest.items()
        if not (row := rows.get(voucher_id)) or not row["complete_through"] or row["complete_through"] <= instant
    ]
