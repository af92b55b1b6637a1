"""`voucher-sync outbox`: looking at what is queued, and moving it."""

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.cli.conftest import Cli
from tests.cli.outbox.helpers import OTHER, STATES, VOUCHER, add_row, query, without_colours
from tests.support.process import run_on_terminal

SECRET = "SUMMER-2027"


@pytest.fixture(autouse=True)
def daemon_at_work(database_url: str) -> None:
    """One was heard of just now, so that nobody is told of its silence."""
    query(database_url, "INSERT INTO sync.connections (name, state, heartbeat_at) VALUES ('default', 'ok', now())")


@pytest.mark.long
async def test_the_list_is_newest_first_and_keeps_codes_to_itself(cli: Cli, database_url: str, tmp_path: Path) -> None:
    settings = {"DATABASE_URL": database_url}
    nothing = await cli("outbox", "list", settings=settings)
    assert (nothing.code, nothing.stdout) == (0, "Nothing is queued.\n")

    pending = add_row(database_url, SECRET, note="line\nbreak \x1b[2J [red]")
    failed = add_row(database_url, f"{SECRET}-B", "failed")
    add_row(database_url, f"{SECRET}-C", "done", voucher=OTHER)
    query(
        database_url, "INSERT INTO mews.voucher_code_outbox (operation, voucher_code_id) VALUES ('delete', %s)", OTHER
    )

    listed = await cli("outbox", "list", "--operation", "add", "--voucher", VOUCHER, settings=settings)
    *rows, total = listed.stdout.splitlines()
    fields = [row.split("\t") for row in rows]
    assert [one[:4] for one in fields] == [
        [str(failed), "add", "failed", VOUCHER],
        [str(pending), "add", "pending", VOUCHER],
    ]
    assert [one[6:] for one in fields] == [["no such rate", "", ""], ["", "line break  [2J [red]", ""]]
    assert total == "In all: 1 pending, 1 failed."
    assert SECRET not in listed.stdout

    call = ("outbox", "list", "--values", "--limit", "2")
    table = await run_on_terminal(*call, settings=settings | {"COLUMNS": "240", "NO_COLOR": "1"}, directory=tmp_path)
    assert " operation " in without_colours(table.stdout)
    assert (f"{SECRET}-C" in table.stdout, f"{SECRET}-B" in table.stdout) == (True, False)
    assert table.stdout.splitlines()[-1] == "In all: 2 pending, 1 done, 1 failed."

    chosen = ("--status", "failed", "--status", "pending", "--operation", "add", "--json")
    found = json.loads((await cli("outbox", "list", *chosen, settings=settings)).stdout)
    assert [row["id"] for row in found["rows"]] == [failed, pending]
    assert found["counts"] == {"pending": 1, "done": 1, "failed": 1}
    assert SECRET not in str(found)


@pytest.mark.long
async def test_the_list_keeps_a_code_to_itself_that_the_api_quotes(cli: Cli, database_url: str) -> None:
    settings = {"DATABASE_URL": database_url}
    add_row(database_url, SECRET, "failed")
    with psycopg.connect(database_url) as connection:
        connection.execute("SET voucher_sync.daemon = 'on'")
        connection.execute("UPDATE mews.voucher_code_outbox SET last_error = %s", [f"Code {SECRET} exists already"])
    for options in ((), ("--json",)):
        assert "Code *** exists already" in (await cli("outbox", "list", *options, settings=settings)).stdout
        quoted = await cli("outbox", "list", "--values", *options, settings=settings)
        assert f"Code {SECRET} exists already" in quoted.stdout


@pytest.mark.long
async def test_a_row_is_shown_with_its_attempts(cli: Cli, database_url: str) -> None:
    settings = {"DATABASE_URL": database_url}
    row_id = add_row(database_url, SECRET, "failed")
    for attempt, message in ((OTHER, "second\x1b[2J"), (VOUCHER, "first")):
        query(
            database_url,
            "INSERT INTO mews.voucher_code_outbox_attempts "
            "(outbox_id, attempt_id, sent_at, outcome, http_status, message) VALUES (%s, %s, %s, 'refused', 403, %s)",
            row_id, attempt, "2026-01-02Z" if attempt == OTHER else "2026-01-01Z", message,
        )  # fmt: skip
    text = await cli("outbox", "show", str(row_id), settings=settings)
    assert text.code == 0
    lines = text.stdout.splitlines()
    assert {f"id: {row_id}", f"value: {SECRET}", "status: failed", "last_error: no such rate"} <= set(lines)
    assert lines[lines.index("attempt 1:") :] == [
        "attempt 1:", f"  attempt_id: {VOUCHER}", "  sent_at: 2026-01-01 00:00:00 UTC", lines[-11],
        "  outcome: refused",
        "  http_status: 403", "  message: first",
        "attempt 2:", f"  attempt_id: {OTHER}", "  sent_at: 2026-01-02 00:00:00 UTC", lines[-4], "  outcome: refused",
        "  http_status: 403", "  message: second [2J",
    ]  # fmt: skip
    found = json.loads((await cli("outbox", "show", str(row_id), "--json", settings=settings)).stdout)
    assert (found["value"], found["voucher_id"], found["finished_at"]) == (SECRET, VOUCHER, "2026-01-01T00:00:00+00:00")
    assert [one["message"] for one in found["attempt_log"]] == ["first", "second\x1b[2J"]

    missing = await cli("outbox", "show", str(row_id + 1), settings=settings)
    assert (missing.code, missing.stdout) == (1, "")
    assert missing.stderr == f"Error: the outbox has no row {row_id + 1}: see `voucher-sync outbox list`\n"


def statuses(url: str) -> dict[int, str]:
    """Where each row stands."""
    found: list[tuple[Any, ...]] = query(url, "SELECT id, status FROM mews.voucher_code_outbox ORDER BY id")
    return dict(found)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("command", "sources", "target"),
    [
        ("retry", {"failed"}, "pending"),
        ("cancel", {"pending", "held"}, "cancelled"),
        ("release", {"held"}, "pending"),
    ],
)
async def test_rows_that_may_be_moved_are_and_the_others_named(
    cli: Cli, database_url: str, command: str, sources: set[str], target: str
) -> None:
    ids = {status: add_row(database_url, status, status) for status in STATES}
    numbers = [str(row_id) for row_id in [*ids.values(), ids["pending"], 999]]
    ended = await cli("outbox", command, *numbers, settings={"DATABASE_URL": database_url})
    assert ended.code == 1
    assert ended.stdout.startswith(f"{len(sources)} row")
    assert statuses(database_url) == {row_id: target if status in sources else status for status, row_id in ids.items()}
    only = " or ".join(status for status in ids if status in sources)
    told = {f"Row {ids[status]} is {status}, and this is for rows that are {only}." for status in set(ids) - sources}
    assert sorted(ended.stderr.splitlines()) == sorted(told | {"Row 999 is not in the outbox."})


@pytest.mark.long
async def test_all_of_a_voucher_are_moved(cli: Cli, database_url: str) -> None:
    settings = {"DATABASE_URL": database_url}
    mine, another = add_row(database_url, "A", "held"), add_row(database_url, "A", "held", voucher=OTHER)
    one = await cli("outbox", "release", "--all", "--voucher", VOUCHER, settings=settings)
    assert (one.code, one.stdout, one.stderr) == (0, "1 row is pending.\n", "")
    assert statuses(database_url) == {mine: "pending", another: "held"}
    both = await cli("outbox", "cancel", "--all", settings=settings)
    assert (both.code, both.stdout) == (0, "2 rows are cancelled.\n")
    assert set(statuses(database_url).values()) == {"cancelled"}


@pytest.mark.long
async def test_what_failed_twice_or_is_queued_again_is_retried_once(cli: Cli, database_url: str) -> None:
    first, second = add_row(database_url, "A", "failed"), add_row(database_url, "A", "failed")
    old, new = add_row(database_url, "B", "failed"), add_row(database_url, "B")
    ended = await cli("outbox", "retry", "--all", settings={"DATABASE_URL": database_url})
    assert (ended.code, ended.stdout) == (1, "1 row is pending again.\n")
    assert ended.stderr.splitlines() == [
        f"Row {second} asks for the same add as row {first}, which is queued already.",
        f"Row {old} asks for the same add as row {new}, which is queued already.",
    ]
    assert statuses(database_url) == {first: "pending", second: "failed", old: "failed", new: "pending"}
    named = await cli("outbox", "retry", str(second), settings={"DATABASE_URL": database_url})
    assert (named.code, named.stdout) == (1, "0 rows are pending again.\n")
    assert named.stderr == f"Row {second} asks for the same add as row {first}, which is queued already.\n"


REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF OLD.value = 'HELD-3' THEN RAISE EXCEPTION 'not this one'; ELSIF OLD.value = 'HELD-4' THEN RETURN NULL; END IF;
  RETURN NEW; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON mews.voucher_code_outbox FOR EACH ROW EXECUTE FUNCTION refuse();
"""


@pytest.mark.sampled
@pytest.mark.parametrize("command", ["release", "cancel"])
@pytest.mark.parametrize("are_named", [True, False])
async def test_a_row_that_somebody_s_trigger_keeps_is_named_and_keeps_no_other(
    cli: Cli, database_url: str, command: str, are_named: bool
) -> None:
    ids = [add_row(database_url, f"HELD-{number}", "held") for number in range(1, 6)]
    query(database_url, REFUSE)
    numbers = map(str, ids) if are_named else ["--all"]
    ended = await cli("outbox", command, *numbers, settings={"DATABASE_URL": database_url})
    assert (ended.code, ended.stdout[:7]) == (1, "3 rows ")
    assert [found for found, status in statuses(database_url).items() if status == "held"] == ids[2:4]
    assert f"Row {ids[2]} stays: something on the table of the outbox refuses" in ended.stderr
    assert "P0001" in ended.stderr
    assert f"Row {ids[3]} stays: something on the table of the outbox keeps this row as it is" in ended.stderr


REFUSE_LATE = {
    "a trigger": """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF OLD.value = 'HELD-3' THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON mews.voucher_code_outbox DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION refuse();
""",
    "a foreign key": """
CREATE TABLE allowed (value text, status text, PRIMARY KEY (value, status));
INSERT INTO allowed SELECT 'HELD-' || number, status
FROM generate_series(1, 5) AS number, unnest('{held,pending,cancelled,failed}'::text[]) AS status
WHERE number <> 3 OR status IN ('held', 'failed');
ALTER TABLE mews.voucher_code_outbox ADD FOREIGN KEY (value, status) REFERENCES allowed DEFERRABLE INITIALLY DEFERRED;
""",
}


@pytest.mark.sampled
@pytest.mark.parametrize("command", ["release", "cancel", "retry"])
@pytest.mark.parametrize("are_named", [True, False])
@pytest.mark.parametrize("kind", REFUSE_LATE)
async def test_a_row_that_is_refused_at_the_commit_is_named_and_keeps_no_other(
    cli: Cli, database_url: str, command: str, are_named: bool, kind: str
) -> None:
    status = "failed" if command == "retry" else "held"
    ids = [add_row(database_url, f"HELD-{number}", status) for number in range(1, 6)]
    query(database_url, REFUSE_LATE[kind])
    numbers = map(str, ids) if are_named else ["--all"]
    ended = await cli("outbox", command, *numbers, settings={"DATABASE_URL": database_url})
    assert (ended.code, ended.stdout[:7]) == (1, "4 rows "), ended.stderr
    assert [found for found, stands in statuses(database_url).items() if stands == status] == [ids[2]]
    assert f"Row {ids[2]} stays: something on the table of the outbox refuses" in ended.stderr


@pytest.mark.long
async def test_what_refuses_every_row_is_told_once(cli: Cli, database_url: str) -> None:
    for number in range(150):
        add_row(database_url, f"HELD-{number}", "held")
    query(database_url, REFUSE.replace("OLD.value = 'HELD-3'", "true"))
    ended = await cli("outbox", "release", "--all", settings={"DATABASE_URL": database_url})
    assert (ended.code, ended.stdout) == (1, "")
    assert (len(ended.stderr.splitlines()), "P0001" in ended.stderr) == (1, True)
    assert set(statuses(database_url).values()) == {"held"}
