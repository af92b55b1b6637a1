"""What is said where there is no connection, or nothing has come of one yet."""

from sync.cli.status_text import as_text
from sync.service.status.verdict import judge

from .helpers import connection, daemon, overview

ADDED = "add one with `voucher-sync connections add`"


def test_where_a_daemon_runs_it_is_not_said_to_start_one() -> None:
    runs, none = overview(), overview(daemons=(daemon(is_alive=False),))
    assert judge(runs).to_do.startswith(ADDED)
    assert judge(none).to_do.startswith("start `voucher-sync run`")
    assert ADDED in " ".join(as_text(runs, 30, 80)[:2])


def test_of_one_that_has_just_begun_it_is_not_said_to_start_what_runs() -> None:
    unknown = connection(state="unknown", state_since=None, heartbeat_age_s=None)
    assert judge(overview(unknown)).to_do == ""
    assert judge(overview(unknown, daemons=())).to_do.startswith("start `voucher-sync run`")
