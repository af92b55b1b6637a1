"""Statuses have one vocabulary in all SQL: each is one that there is, and each group of them one that has a name."""

import re
from pathlib import Path

import pytest

from sync.outbox.rules import Status
from sync.outbox.tables import IS_UNFINISHED, UNFINISHED
from tests.support.documents import ROOT

GROUPS = {
    "unfinished": {*UNFINISHED},
    "finished": {Status.DONE, Status.FAILED, Status.CANCELLED},
    "ended by the daemon": {Status.DONE, Status.FAILED},
    "claimed": {Status.SENDING, Status.UNCERTAIN},
    "not sent yet": {Status.PENDING, Status.HELD},
    "waiting for its time": {Status.PENDING, Status.UNCERTAIN},
    "waiting for somebody": {Status.HELD, Status.FAILED},
    "moving with its voucher": {Status.PENDING, Status.UNCERTAIN, Status.HELD, Status.FAILED},
}
ALONE = re.compile(r"status(?:, 7\))? (?:=|<>|IS DISTINCT FROM) '(\w*)'")
TOGETHER = re.compile(r"status (?:NOT )?IN \(([^)]*)\)")


def found_in(text: str) -> list[frozenset[str]]:
    """The statuses that SQL names alone, and its groups of them, in the order in which they stand."""
    groups = [re.findall(r"'(\w*)'", found) for found in TOGETHER.findall(text)]
    return [frozenset(group) for group in [*([one] for one in ALONE.findall(text)), *groups] if group]


def sources() -> list[Path]:
    """All that may hold SQL of ours; the simulator's statuses are those of HTTP."""
    return [path for path in (ROOT / "sync").rglob("*") if path.suffix in {".py", ".sql"} and "demo" not in path.parts]


def test_all_sql_names_statuses_and_groups_of_them_by_one_vocabulary() -> None:
    named = [*GROUPS.values(), *({status} for status in Status)]
    found = {str(path.relative_to(ROOT)): found_in(path.read_text(encoding="utf-8")) for path in sources()}
    assert sum(map(len, found.values())) > 100
    unnamed = {path: [one for one in groups if one not in named] for path, groups in found.items()}
    assert {path: groups for path, groups in unnamed.items() if groups} == {}


@pytest.mark.parametrize("sql", ["row.status = 'sent'", "left(status, 7) = 'waiting'", "status IN ('done', 'held')"])
def test_another_word_or_group_would_be_found(sql: str) -> None:
    (found,) = found_in(sql)
    assert found not in [*GROUPS.values(), *({status} for status in Status)]


def test_the_index_of_what_is_unfinished_is_of_what_the_code_calls_so() -> None:
    assert found_in(IS_UNFINISHED) == [frozenset(UNFINISHED)]
