"""The pages of this folder that can be read off the code and a migrated database: `make reference` writes them anew.

A test compares, so that none of them is ever behind.
"""

import ast
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from inspect import cleandoc
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import psycopg
from psycopg.rows import dict_row

from sync.alerts.conditions import WHAT_TO_DO, Kind
from sync.cli.commands import voucher_sync
from sync.outbox.rules import MOVES, USER_MOVES, Status
from sync.postgres.embedded import embedded_postgres
from sync.postgres.migrations import migrate
from sync.postgres.urls import libpq_url
from sync.settings import Settings
from sync.web.metrics.names import PARTS

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
shapes = import_module("shapes")
GENERATED = "<!-- Generated: change the code that says it, then run `make reference`. -->"
RULES = HERE.parents[1] / "deploy" / "prometheus" / "voucher-sync.rules.yml"
RULE = re.compile(
    r"- alert: (\w+)\n(?:(?!- alert:).)*?(?:^ +for: (\w+)\n)?^ +labels:\n +severity: (\w+)\n"
    r" +annotations:\n +summary: ([^\n]+)\n(?:(?!- alert:).)*?#(\w+)\n",
    re.DOTALL | re.MULTILINE,
)
"""Name, wait, severity, summary, heading of the runbook: whoever makes the pages may have nothing that reads YAML."""
VARIABLE = re.compile(r"\{\{ \$(?:labels\.)?(\w+)[^}]*\}\}")
RELATIONS = """
SELECT relation.oid, relation.relname AS name, relation.relkind IN ('v', 'm') AS is_view,
       obj_description(relation.oid, 'pg_class') AS comment
FROM pg_class AS relation
WHERE relation.relnamespace = 'mews'::regnamespace AND relation.relkind IN ('r', 'p', 'v', 'm')
ORDER BY is_view, name
"""
COLUMNS = """
SELECT attname AS name, format_type(atttypid, atttypmod) AS type, attnotnull AS is_required,
       col_description(attrelid, attnum) AS comment
FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
FUNCTIONS = """
SELECT proname || '(' || pg_get_function_arguments(oid) || ')' AS name, obj_description(oid, 'pg_proc') AS comment
FROM pg_proc WHERE pronamespace = 'mews'::regnamespace AND prorettype <> 'trigger'::regtype ORDER BY 1
"""


def main() -> None:
    """Write every page."""
    for name, page in pages_of_code().items():
        (HERE / name).write_text(page, encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="voucher-sync-reference-", ignore_cleanup_errors=True) as directory:
        with embedded_postgres(Path(directory)) as url:
            migrate(url)
            (HERE / "tables.md").write_text(tables(url), encoding="utf-8")
    sys.stdout.write(f"{HERE.name}/ is written\n")


def pages_of_code() -> Mapping[str, str]:
    """The pages that need no database, by their file's name."""
    pages = {"settings.md": settings(), "commands.md": commands(), "statuses.md": statuses(), "alerts.md": alerts()}
    return pages | {"metrics.md": metrics()} | shapes.pages(GENERATED)


def settings() -> str:
    """Every setting, its default and what it is for."""
    meanings, rows = docstrings_of(Settings), []
    for name, field in Settings.model_fields.items():
        meaning, _, unset = meanings[name].partition(" Default: ")
        default = unset.rstrip(".") or f"`{field.default}`"
        rows.append((f"`{name.upper()}`", default, meaning))
    intro = (
        "From the environment, or from the `.env` of the working directory where nobody else may write it; each also "
        "from a file that the same name with `_FILE` behind it names."
    )
    return _page(["# Settings", GENERATED, intro, _table(("name", "default", "meaning"), rows)])


def commands() -> str:
    """Every command with its options, as `--help` says it."""
    parts = ["# Commands", GENERATED, cleandoc(voucher_sync.help or "")]
    for path, command in _walk(voucher_sync, ("voucher-sync",)):
        context = click.Context(command, info_name=" ".join(path))
        usage = " ".join([" ".join(path), *command.collect_usage_pieces(context)])
        parts += [f"## `{' '.join(path)}`", cleandoc(command.help or ""), f"    {usage}"]
        options = [one.get_help_record(context) for one in command.params if isinstance(one, click.Option)]
        rows = [(f"`{names}`", text) for names, text in filter(None, options)]
        if rows:
            parts.append(_table(("option", "meaning"), rows))
    return _page(parts)


def _walk(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        for name, one in sorted(command.commands.items()):
            yield from _walk(one, (*path, name))
    else:
        yield path, command


def statuses() -> str:
    """What a change may be, and who moves it on."""
    meanings = docstrings_of(Status)
    rows = []
    for one in Status:
        by_users = USER_MOVES.get(one, frozenset())
        rows.append((f"`{one}`", meanings[one.name], _names(MOVES[one] - by_users), _names(by_users)))
    intro = "`status` of `mews.voucher_code_outbox`. A trigger refuses every move that is not here."
    return _page(
        ["# Statuses", GENERATED, intro, _table(("status", "meaning", "next, by the daemon", "next, by a user"), rows)]
    )


def _names(of: Iterable[Status]) -> str:
    return _quoted(one for one in Status if one in of)


def alerts() -> str:
    """What the webhook tells, and Prometheus."""
    meanings = docstrings_of(Kind)
    rows = [(_in_runbook(one), meanings[one.name], WHAT_TO_DO[one]) for one in Kind]
    intro = "`condition` of what is sent to `SYNC_ALERT_WEBHOOK_URL`, with its heading of the runbook."
    parts = ["# Alerts", GENERATED, intro, _table(("condition", "holds while", "what to do"), rows)]
    intro = "What the rules in `deploy/prometheus/` tell, once it has held for so long."
    fired = [
        (f"`{name}`", severity, waits or "at once", VARIABLE.sub(r"*\1*", summary.strip("'")), _in_runbook(heading))
        for name, waits, severity, summary, heading in RULE.findall(RULES.read_text(encoding="utf-8"))
    ]
    columns = ("alert", "severity", "after", "summary", "runbook")
    return _page([*parts, "## Of Prometheus", intro, _table(columns, fired)])


def _in_runbook(heading: str) -> str:
    return f"[`{heading}`](../../deploy/runbook.md#{heading})"


def metrics() -> str:
    """What `/metrics` tells."""
    intro = (
        "At `/metrics` of `SYNC_HTTP_BIND`, for Prometheus and, where that is asked for, in OpenMetrics' words. Beside "
        "these there are `process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_start_time_seconds`, "
        "and the others that Prometheus' library counts. No metric holds a token or a code's value. A counter begins "
        "at 0 with the process; a histogram is queried as `..._bucket`, `..._sum` and `..._count`."
    )
    parts = ["# Metrics", GENERATED, intro]
    for title, words, of_part in PARTS:
        rows = [(f"`{one.full_name}`", one.kind, _quoted(one.labels), one.meaning) for one in of_part]
        parts += [f"## {title}", words, _table(("name", "kind", "labels", "meaning"), rows)]
    return _page(parts)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def tables(database_url: str) -> str:
    """Schema `mews`, as its comments tell it."""
    parts = ["# Tables, views and functions", GENERATED, "Schema `mews`; `\\d+ mews.*` in psql shows the same."]
    with psycopg.connect(libpq_url(database_url), row_factory=dict_row) as session:
        for relation in session.execute(RELATIONS).fetchall():
            kind = ", a view" if relation["is_view"] else ""
            parts += [f"## `mews.{relation['name']}`{kind}", relation["comment"]]
            parts.append(_columns(session.execute(COLUMNS, (relation["oid"],)).fetchall()))
        for function in session.execute(FUNCTIONS).fetchall():
            parts += [f"## `mews.{function['name']}`", function["comment"]]
    return _page(parts)


def _columns(columns: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        (f"`{one['name']}`", f"{one['type']}{', required' if one['is_required'] else ''}", one["comment"] or "")
        for one in columns
    ]
    return _table(("column", "type", "meaning"), rows)


def docstrings_of(class_: type) -> dict[str, str]:
    """The sentence beneath each attribute of a class, by the attribute's name."""
    module = import_module(class_.__module__)
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    body = next(one.body for one in tree.body if isinstance(one, ast.ClassDef) and one.name == class_.__name__)
    found = {}
    for before, after in pairwise(body):
        name = before.targets[0] if isinstance(before, ast.Assign) else getattr(before, "target", None)
        if isinstance(name, ast.Name) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[name.id] = " ".join(str(after.value.value).split())
    return found


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _page(parts: Iterable[str]) -> str:
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
