"""The runbook: a heading for each condition, commands that exist, and SQL that runs."""

import re

import click
import psycopg
import pytest

from sync.postgres.urls import libpq_url
from tests.deploy.helpers import DEPLOY
from tests.support.pages import LINK, anchors, blocks, commands, inline, parse_command

RUNBOOK = (DEPLOY / "runbook.md").read_text(encoding="utf-8")
CONDITIONS = {
    "failing", "no_progress", "not_adopted", "changes_held", "changes_failed", "changes_stuck", "records_rejected",
    "drift", "audit_stopped",
}  # fmt: skip
"""What the webhook tells of, each under the name of its heading."""


STATEMENTS = [*blocks(RUNBOOK, "sql"), *inline(RUNBOOK, "SELECT ")]
COMMANDS = commands(RUNBOOK)


def test_each_condition_has_a_heading_under_which_it_is_found() -> None:
    headings = re.findall(r"(?m)^## (.+)$", RUNBOOK)

    assert set(headings) >= CONDITIONS
    assert [one for one in headings if not re.fullmatch(r"[a-z_]+", one)] == []
    assert len(headings) == len(set(headings))


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda one: " ".join(one.split())[:60])
def test_a_statement_runs_against_a_migrated_database(database_url: str, statement: str) -> None:
    with psycopg.connect(libpq_url(database_url)) as session:
        session.read_only = True
        session.execute(statement)


def test_the_check_of_statements_sees_them() -> None:
    assert len(STATEMENTS) >= 15


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_is_called_as_it_can_be(line: str) -> None:
    parse_command(line)


@pytest.mark.parametrize("wrong", ["voucher-sync outbox list --status helt", "voucher-sync adopt --releas"])
def test_the_check_of_commands_can_fail(wrong: str) -> None:
    with pytest.raises(click.UsageError):
        test_a_command_is_called_as_it_can_be(wrong)


@pytest.mark.parametrize("page", ["README.md", "runbook.md"])
def test_every_link_leads_to_a_heading_that_is_there(page: str) -> None:
    links = LINK.findall((DEPLOY / page).read_text(encoding="utf-8"))
    assert links
    for target, anchor in links:
        path = (DEPLOY / target) if target else DEPLOY / page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}"
