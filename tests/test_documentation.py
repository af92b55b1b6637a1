"""The pages of docs/ for users: all are found, links lead somewhere, command lines can be typed, and SQL runs."""

import re
import tomllib
from pathlib import Path

import click
import psycopg
import pytest

from sync.postgres.urls import libpq_url
from tests.support.documents import ROOT, files
from tests.support.pages import LINK, anchors, blocks, commands, parse_command

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
LINKING = [DOCS / "llms.txt", *(ROOT / path for path in files() if path.suffix == ".md")]
"""Whatever may link to something: every page of the repository."""
TEXTS = {str(path.relative_to(DOCS)): path.read_text(encoding="utf-8") for path in PAGES}
GUIDES = [name for name in TEXTS if name.startswith("how-to/") or name in {"tutorial.md", "explanation.md"}]
README = (ROOT / "README.md").read_text(encoding="utf-8")
VOUCHER, CODE = (f"(SELECT min(id::text)::uuid FROM mews.{table})" for table in ("vouchers", "voucher_codes"))
OF_README = [
    re.sub(r"'\.\.\.'", CODE if "(operation, voucher_code_id)" in one else VOUCHER, one)
    for block in blocks(README, "sql")
    for one in re.split(r"(?<=;)\n+", block.strip())
]
STATEMENTS = [(name, one) for name in GUIDES for one in blocks(TEXTS[name], "sql")]
STATEMENTS += [("README.md", one) for one in OF_README]
WITH_COMMANDS = [re.sub(r"(?m)^\|.*", "", README), *(TEXTS[name] for name in [*GUIDES, "bi.md"])]
COMMANDS = sorted({one for text in WITH_COMMANDS for one in commands(text)})
ROWS = """
INSERT INTO mews.enterprises (id, name, connection) VALUES (gen_random_uuid(), 'Prague', 'default');
INSERT INTO mews.services (id, enterprise_id, name, is_active, connection)
SELECT gen_random_uuid(), id, 'Stay', true, 'default' FROM mews.enterprises;
INSERT INTO mews.vouchers (id, service_id, enterprise_id, name, is_active, connection)
SELECT gen_random_uuid(), id, enterprise_id, 'Summer offer', true, 'default' FROM mews.services;
INSERT INTO mews.voucher_codes (id, voucher_id, value, created_utc, updated_utc, is_active, connection)
SELECT gen_random_uuid(), id, 'CODE-' || number, now() - number * interval '9 days', now(), true, 'default'
FROM mews.vouchers, generate_series(1, 20) AS number
"""


def linked(path: Path) -> list[tuple[Path, str]]:
    """Where the links of a page lead within the repository."""
    found = LINK.findall(path.read_text(encoding="utf-8"))
    return [((path.parent / target).resolve() if target else path, anchor) for target, anchor in found]


def test_every_page_is_reached_from_the_index() -> None:
    reached, left = set[Path](), [DOCS / "index.md"]
    while left:
        if (page := left.pop()) not in reached:
            reached.add(page)
            left += [target for target, _ in linked(page) if target.suffix == ".md" and target.is_relative_to(DOCS)]
    assert len(PAGES) > 20
    assert [path for path in PAGES if path not in reached] == []


@pytest.mark.parametrize("path", LINKING, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_heading_that_is_there(path: Path) -> None:
    assert [str(target) for target, _ in linked(path) if not target.exists()] == []
    to_headings = [(target, anchor) for target, anchor in linked(path) if anchor]
    assert [(target.name, anchor) for target, anchor in to_headings if anchor not in anchors(target)] == []


def test_no_link_names_a_heading_that_a_page_has_twice() -> None:
    # Viewers number the second one differently, and a built site links to nothing.
    named = {anchor for path in LINKING for _, anchor in linked(path)}
    assert [anchor for anchor in sorted(named) if re.search(r"-\d+$", anchor)] == []


def test_a_site_has_whatever_its_pages_link_to() -> None:
    site = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    folder = ROOT / site["docs_dir"]

    def is_on_it(path: Path) -> bool:
        name = path.relative_to(folder).as_posix()
        return not any(re.search(pattern, name) for pattern in site["plugins"]["exclude"]["regex"])

    pages = [path for path in LINKING if path.suffix == ".md" and is_on_it(path)]
    assert {*PAGES, ROOT / "README.md", ROOT / "deploy" / "runbook.md"} <= set(pages)
    targets = {target for path in pages for target, _ in linked(path)}
    assert [target for target in sorted(targets) if target.is_file() and not is_on_it(target)] == []


def test_a_program_that_reads_is_told_of_every_page() -> None:
    told = {target for target, _ in linked(DOCS / "llms.txt")}
    assert [path for path in PAGES if path not in told] == []


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_is_called_as_it_can_be(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("codes.csv").touch()
    parse_command(line)


@pytest.mark.parametrize("wrong", ["voucher-sync adopt --releas", "voucher-sync outbox import nowhere.csv --fast"])
def test_the_check_of_commands_can_fail(wrong: str) -> None:
    with pytest.raises(click.UsageError):
        parse_command(wrong)


@pytest.mark.parametrize(("name", "statement"), STATEMENTS, ids=lambda one: " ".join(one.split())[:50])
def test_a_statement_runs_in_a_database_with_codes(database_url: str, name: str, statement: str) -> None:
    with psycopg.connect(libpq_url(database_url)) as session:
        session.execute(ROWS)
        made = session.execute(statement.encode())
        assert not statement.startswith("INSERT") or made.rowcount == 1, f"{name}: it queues nothing"
        session.rollback()


def test_the_tutorial_s_chart_has_each_month_and_0_where_no_code_was_made(database_url: str) -> None:
    (chart,) = [one for one in blocks(TEXTS["tutorial.md"], "sql") if "chart" in one]
    with psycopg.connect(libpq_url(database_url)) as session:
        session.execute(ROWS)
        session.execute(
            "INSERT INTO mews.voucher_codes (id, voucher_id, value, created_utc, updated_utc, is_active, connection) "
            "SELECT gen_random_uuid(), id, 'OLD', now() - interval '14 months', now(), true, 'default' "
            "FROM mews.vouchers"
        )
        rows = session.execute(chart.encode()).fetchall()
        session.rollback()
    months = [month.year * 12 + month.month for month, _, _ in rows]
    assert months == list(range(months[0], months[0] + 15))
    assert sum(codes for _, codes, _ in rows) == 21
    assert {bool(bar) for _, codes, bar in rows if not codes} == {False}
    assert max(len(bar or "") for _, _, bar in rows) == 40


def test_the_checks_see_what_they_are_to_check() -> None:
    assert len(STATEMENTS) > 25
    assert len(COMMANDS) > 25
    assert len(OF_README) > 10


def test_what_an_application_does_in_python_queues_once(database_url: str) -> None:
    (example,) = blocks(TEXTS["how-to/change-codes.md"], "python")
    names = dict[str, object]()
    exec(compile(example, "change-codes.md", "exec"), names)
    queue_code, outcome = names["queue_code"], names["outcome"]
    assert callable(queue_code)
    assert callable(outcome)
    with psycopg.connect(libpq_url(database_url)) as session:
        session.execute(ROWS)
        for _ in range(2):
            queue_code(session, "Summer offer", "AUTUMN", "order-1")
        queue_code(session, "No such offer", "AUTUMN", "order-2")
        assert session.execute("SELECT value FROM mews.voucher_code_outbox").fetchall() == [("AUTUMN",)]
        assert outcome(session, "order-1") == ("pending", None)
        assert outcome(session, "order-2") is None
        session.execute("SET LOCAL ROLE mews_writer")  # a login may act as a role; what it has queued is its own
        assert outcome(session, "order-1") == ("pending", None)
        session.rollback()
