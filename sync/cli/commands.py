"""Every command as it is called: its options and its help.

What a command does is imported when it is called: the database's and the API's libraries take most of a second, which
nobody who asks for help, or has mistyped an option, is to wait for.
"""

import math
from typing import Any

import click
from click.shell_completion import get_completion_class

from sync.cli.connections.commands import connections
from sync.cli.groups import Group
from sync.cli.loading import loading
from sync.cli.options import CONNECTION, WORDS, option_json
from sync.cli.outbox.commands import outbox


class Seconds(click.FloatRange):
    """So many seconds, and none of what else a float can be: nothing is over after `nan`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Click's own way to ask for it."""
        try:
            is_number = math.isfinite(float(value))
        except ValueError:
            is_number = False
        if not is_number:
            self.fail("give a number of seconds; without any it goes on until Ctrl-C", param, ctx)
        return float(super().convert(value, param, ctx))


option_connection = click.option(
    "--connection", "name", metavar="NAME", type=CONNECTION, help="Work for this connection, and for no other."
)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="voucher-sync")
def voucher_sync() -> None:
    """Mirrors voucher codes from the Mews Connector API into PostgreSQL.

    Settings come from the environment or an .env file: see docs/reference/settings.md.
    """


@voucher_sync.command()
def run() -> None:
    """Run the daemon until SIGTERM, Ctrl-C or the end of its terminal.

    It keeps the mirror up to date. What waits in the outbox is sent: codes are added to the hotel and deleted there.

    The first signal, SIGTERM or Ctrl-C, ends it cleanly: what is under way at the API is finished and written down, the
    rest is given back, and it ends with 0; after 10 seconds it ends even so, with 1. A second one ends it at once, with
    130. The end of its terminal (SIGHUP) is a first signal too, unless it was started by `nohup`. Either way nothing is
    lost or made twice: what was cut short is looked up in the API by whoever works next.
    """
    with loading():
        from sync.cli.run import run as work

    work()


@voucher_sync.command()
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option(
    "--accept-enterprises",
    is_flag=True,
    help="The tokens are for another address, or for other hotels, than those mirrored so far, and that is meant.",
)
@option_connection
def once(as_json: bool, accept_enterprises: bool, name: str | None) -> None:
    """Do one full cycle, then exit: discover, pull, push.

    It pulls until caught up, and pushes all that is due. Exits 0 only if all of it succeeded. What waits in the outbox
    is sent: codes are added to the hotel and deleted there, as `run` would.

    After a SIGTERM what is under way at the API may end, for 10 seconds; then, or at a second one, it ends even so.
    """
    with loading():
        from sync.cli.once import once as work

    work(as_json=as_json, accept_enterprises=accept_enterprises, name=name)


@voucher_sync.command()
@option_json
def migrate(as_json: bool) -> None:
    """Bring the database to this version's schema.

    Safe to run from several places at once.
    """
    with loading():
        from sync.cli.migrate import migrate as work

    work(as_json=as_json)


@voucher_sync.command()
@option_json
def roles(as_json: bool) -> None:
    """Make the database's roles for users, and grant them.

    They are mews_reader, mews_writer and mews_operator, each with what it is for. Works at any time, and again. What
    this user may not do is printed as SQL for somebody who may. Exits 1 as long as something is left to do.
    """
    with loading():
        from sync.cli.roles import roles as work

    work(as_json=as_json)


@voucher_sync.command()
@click.option("--alert", is_flag=True, help="Send a trial to the webhook, too (SYNC_ALERT_WEBHOOK_URL).")
@option_connection
@option_json
def check(alert: bool, as_json: bool, name: str | None) -> None:
    """Look for what is wrong, and say what to do.

    Settings, database, credentials, permissions and clock: one line each. Exits 1 if something is wrong.
    """
    with loading():
        if alert:
            from sync.cli.check_alert import check_with_alert as work
        else:
            from sync.cli.check import check as work

    work(as_json=as_json, name=name)


@voucher_sync.command()
@option_json
@click.option("--healthy", is_flag=True, help="Print nothing; exit 0 only if a daemon is alive.")
@click.option("--watch", is_flag=True, help="Print again every 2 seconds, in the same place, until Ctrl-C.")
@click.option(
    "--strict",
    is_flag=True,
    help="Exit 3 where nothing fails, but changes are held or failed, it drifted, or nothing is there and at work.",
)
@click.option(
    "--connection", "name", metavar="NAME", type=CONNECTION, help="Tell everything of this connection, and of no other."
)
def status(as_json: bool, healthy: bool, watch: bool, strict: bool, name: str | None) -> None:
    """Show how every connection is doing.

    Whether it works, since when not and why, what waits, and what to do. Exits 1 if one is failing or has fallen
    behind, if its daemon is silent, or the database waits for `adopt`.
    """
    if watch and (as_json or healthy or strict):
        raise click.UsageError("--watch is for people: it goes with neither --json, --healthy nor --strict")
    with loading():
        from sync.cli.status import status as work

    work(as_json=as_json, healthy=healthy, watch=watch, strict=strict, name=name)


@voucher_sync.command()
@click.option("--deleted", "with_deleted", is_flag=True, help="Those too that are deleted in Mews.")
@option_json
def vouchers(with_deleted: bool, as_json: bool) -> None:
    """List the vouchers that the mirror knows.

    With their names, hotel, service and number of codes. Off a terminal each is a line with tabs: id, name, service,
    hotel, active codes, all codes, external identifier. Other commands take a voucher by its id, or by its name or
    external identifier where only one is called so.
    """
    with loading():
        from sync.cli.vouchers import vouchers as work

    work(with_deleted=with_deleted, as_json=as_json)


@voucher_sync.command()
@click.argument("value", type=WORDS)
@click.option("--yes", "is_meant", is_flag=True, help="Erase it; without this it is only told what would be.")
@option_json
def erase(value: str, is_meant: bool, as_json: bool) -> None:
    """Erase a code's text, for data protection.

    It goes from the outbox, its history and what could not be stored. Without --yes it only tells what would go, and
    where the text stays. Rows keep their numbers and what became of them. The mirror keeps what Mews has. Give - to
    have the text read from the standard input, where a shell does not remember it. Nothing is erased while changes of
    the code are not finished: cancel them first.
    """
    with loading():
        from sync.cli.erase import run_erase as work

    work(value=value, is_meant=is_meant, as_json=as_json)


@voucher_sync.command()
@click.option("--repair", is_flag=True, help="Mend what has drifted.")
@click.option("--accept-loss", is_flag=True, help="With --repair: mark codes as missing, however many they are.")
@option_connection
@option_json
def audit(repair: bool, accept_loss: bool, name: str | None, as_json: bool) -> None:
    """Compare every code with the API's, row by row.

    Tells what has drifted. Codes that changed in the last minutes are left to the pull. Exits 1 if something has
    drifted and is not mended, or could not be compared.
    """
    if accept_loss and not repair:
        raise click.UsageError("--accept-loss belongs to --repair: without it nothing is marked as missing")
    with loading():
        from sync.cli.audit import audit as work

    work(repair=repair, accept_loss=accept_loss, as_json=as_json, name=name)


@voucher_sync.command()
@click.option("--show", "choice", flag_value="show", help="Only look up, and show what is left.")
@click.option("--release", "choice", flag_value="release", help="Send what the API does not show as done.")
@click.option("--cancel", "choice", flag_value="cancel", help="Take it back.")
@click.option("--keep", "choice", flag_value="keep", help="Leave it held, to release or cancel row by row.")
@option_json
def adopt(choice: str | None, as_json: bool) -> None:
    """Make this database the one to work with.

    For after a restore, a copy or lost commits. What was queued before is looked up in the API, and done where it
    stands there. What is left is shown and released: on a terminal this asks first, else see it with `--show` before.
    What was cancelled after the backup is queued again in a restored database. Exits 1 as long as it is not adopted.
    """
    with loading():
        from sync.cli.adopt import run_adopt as work

    work(choice=choice, as_json=as_json)


@voucher_sync.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what has a shell complete commands.

    And their options; for bash 4.4 or newer, zsh or fish.

    \b
    Examples, for the shell that runs:
      bash: eval "$(voucher-sync completion bash)"    in ~/.bashrc
      zsh:  eval "$(voucher-sync completion zsh)"     in ~/.zshrc, behind compinit
      fish: voucher-sync completion fish > ~/.config/fish/completions/voucher-sync.fish
    """
    complete = get_completion_class(shell)
    assert complete is not None  # noqa: S101 - click has all three
    click.echo(complete(voucher_sync, {}, "voucher-sync", "_VOUCHER_SYNC_COMPLETE").source())


@voucher_sync.command()
@click.option("--seconds", type=Seconds(min=0), help="End by itself after so long.")
@click.option("--live", is_flag=True, help="Use the vendor's public demo environment in place of the simulator.")
def demo(seconds: float | None, live: bool) -> None:
    """Show it all at work, with a simulated API.

    A database of its own, a simulated API that people keep changing, and the daemon. Exits 0 only if the mirror is
    equal to the simulator, row by row, in the end.
    """
    with loading():
        from sync.cli.extra import require_extra

        require_extra("the demo")
        from sync.cli.demo import demo as work

    work(seconds=seconds, live=live)


voucher_sync.add_command(connections)
voucher_sync.add_command(outbox)
