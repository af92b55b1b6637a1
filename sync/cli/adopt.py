"""`voucher-sync adopt`."""

import asyncio
import json
import sys
from dataclasses import replace
from functools import partial

import click

from sync import logs
from sync.cli import event_loop
from sync.cli.database import open_database
from sync.cli.others import await_others
from sync.core.plurals import in_seconds, plural
from sync.service import app
from sync.service.adoption import Adoption, Rest, adopt
from sync.service.opened import open_connections, require_tokens
from sync.settings import Settings, load_settings
from sync.signals import Signal

SHOW = "show"
NEXT_STEP = (
    "see them with `voucher-sync outbox list --status held`, and `outbox cancel` what is not wanted; then "
    "`voucher-sync adopt --release` sends the rest, `--cancel` takes it back, `--keep` leaves it held"
)
FAILED = "could not be looked up: see `voucher-sync outbox list --status failed`"
WILL_FAIL = (
    "can not be looked up, as of a connection that is paused or a voucher that Mews does not show, and will fail: see "
    "`voucher-sync outbox list --status uncertain`"
)
KEPT = "send them with `voucher-sync outbox release`, or take them back with `voucher-sync outbox cancel`"
NOTHING_LEFT = "nothing of it is left to send; if this is the database to work with, run `voucher-sync adopt`"


def run_adopt(*, choice: str | None, as_json: bool) -> None:
    """Look up what is held, release the rest or do with it what is chosen, and exit with 0 if it is adopted.

    Where nothing is chosen a terminal is asked first.
    """
    settings = load_settings()
    require_tokens(settings)
    logs.configure(settings.sync_log_format, "warning" if sys.stderr.isatty() else settings.sync_log_level)
    # Whoever sent something has given up within its lease, and the API shows it so much later at most.
    wait_s = settings.sync_lease_s + settings.sync_settle_after_s
    with open_database(settings) as url:
        is_asked = choice is None and not as_json and sys.stdin.isatty()
        rest = None if is_asked or choice == SHOW else Rest(choice or Rest.RELEASE)
        adoption = event_loop.run(_adopt(settings, url, rest, wait_s))
        if is_asked and not (adoption.adopted or adoption.errors):
            rest = _ask(adoption) if adoption.left.total else Rest.KEEP
            done = adoption.done
            adoption = event_loop.run(_adopt(settings, url, rest, 0.0))
            adoption = replace(adoption, done=done + adoption.done)
    click.echo(json.dumps(adoption.summary()) if as_json else sentence(adoption))
    for error in adoption.errors:
        click.echo(f"Error: {error}", err=True)
    if not (adoption.adopted or adoption.errors or as_json):
        click.echo(f"Error: not adopted: {NEXT_STEP if adoption.left.total else NOTHING_LEFT}", err=True)
    sys.exit(0 if adoption.adopted and not adoption.errors else 1)


async def _adopt(settings: Settings, url: str, rest: Rest | None, wait_s: float) -> Adoption:
    only_looks = rest is None  # what is held by that stays so, also for a daemon that knows the server
    async with open_connections(settings, url, Signal(), waits_for_others=only_looks) as opened:
        if only_looks:
            await await_others(opened.connections[0])
        jobs, *others = [app.make_jobs(connection, settings) for connection in opened.connections]
        return await adopt(jobs.connection, jobs, rest, partial(_wait, wait_s), others)


async def _wait(wait_s: float) -> None:
    if wait_s:
        click.echo(f"Waiting for {in_seconds(wait_s)}, until the API must show what was sent last.", err=True)
        await asyncio.sleep(wait_s)


def _ask(adoption: Adoption) -> Rest:
    # On stderr, which is seen also where the output goes into a pipe.
    click.echo(sentence(adoption), err=True)
    choices = click.Choice([one.value for one in Rest])
    return Rest(click.prompt("What becomes of them", type=choices, default=Rest.KEEP.value, err=True))


def sentence(adoption: Adoption) -> str:
    """Counts for people."""
    if adoption.gap is None and not (adoption.done or adoption.left.total):
        return "There is nothing to adopt: this is the database that was worked with."
    released, cancelled = f"{adoption.released:,} released", f"{adoption.cancelled:,} cancelled"
    moved = f"{plural(adoption.done, 'change was', 'changes were')} done already; {released}, {cancelled}"
    left = f"{plural(adoption.left.adds, 'add')} and {plural(adoption.left.deletes, 'delete')} stay held"
    unknown = f"; {plural(adoption.failed, 'change')} {FAILED if adoption.adopted else WILL_FAIL}"
    failed = unknown if adoption.failed else ""
    if adoption.gap is None:
        kept = f"{left}: {KEPT}" if adoption.left.total else "nothing is left held"
        return f"There is nothing to adopt. {plural(adoption.done, 'held change')} stood in Mews; {kept}."
    return f"{'Adopted. ' if adoption.adopted else ''}{moved}; {left}{failed}."
