"""Figures on disk, one for each contender, round and step, and the table that is made of them."""

import json
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
COLUMNS = {
    "wall_s": ("seconds", "{:.2f}"),
    "rate": ("codes/s", "{:,.0f}"),
    "cpu_s": ("client CPU s", "{:.2f}"),
    "db_cpu_s": ("database CPU s", "{:.2f}"),
    "rss_mb": ("peak MB", "{:.0f}"),
    "requests": ("requests", "{:.0f}"),
    "wal_mb": ("WAL MB", "{:.1f}"),
}
SPREAD = {"wall_s"}
"""With their least and greatest beside the median."""

Key = tuple[str, str, str]
"""Work, step and contender."""


@dataclass(slots=True)
class Results:
    """What was measured so far; a run that was ended goes on where it was, as long as nothing else was checked out."""

    path: Path
    head: dict[str, str] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path, *, keep: bool) -> "Results":
        """What the file holds; of another commit only if it is to be kept."""
        results = cls(path)
        if path.exists():
            held = json.loads(path.read_text(encoding="utf-8"))
            if keep or held["head"].get("commit") == commit():
                results.head, results.records = held["head"], held["records"]
        return results

    def has(self, **which: object) -> bool:
        """Whether there is such a record, and none of it failed."""
        found = [one for one in self.records if all(one.get(name) == value for name, value in which.items())]
        return bool(found) and not any("error" in one for one in found)

    def forget(self, **which: object) -> None:
        """Leave out such records."""
        self.records = [one for one in self.records if any(one.get(name) != value for name, value in which.items())]

    def add(self, *records: dict[str, Any]) -> None:
        """Keep them, at once."""
        self.records += records
        self.save()

    def save(self) -> None:
        """Write all down."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = ",\n".join(json.dumps(one) for one in self.records)
        self.path.write_text(f'{{"head": {json.dumps(self.head)},\n"records": [\n{lines}\n]}}\n', encoding="utf-8")

    def groups(self) -> dict[Key, list[dict[str, Any]]]:
        """The records of each cell of the table, in the order in which they came."""
        found: dict[Key, list[dict[str, Any]]] = {}
        for one in self.records:
            found.setdefault((one["work"], one["step"], one["contender"]), []).append(one)
        return found


def commit() -> str:
    """What is measured."""
    command = ("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "not from git"


def machine(database: str, peers: Iterable[str], peers_python: Path) -> dict[str, str]:
    """What figures depend on."""
    listed = subprocess.run(
        [str(peers_python), "-c", "import sys; from importlib.metadata import version\n"
         "print(', '.join(f'{name} {version(name)}' for name in sys.argv[1:]))", *peers],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    ours = f"voucher-sync {version('voucher-sync')}, Python {platform.python_version()}, PostgreSQL {database}"
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "machine": f"{_processors()}, {_memory_gb():.0f} GB, {platform.system()} {platform.release()}",
        "versions": f"{ours}, {listed.stdout.strip()}",
    }


def _processors() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return f"{len(names)} x {names[0].partition(': ')[2]}" if names else platform.processor()


def _memory_gb() -> float:
    info = Path("/proc/meminfo")
    return int(info.read_text().split()[1]) / 2**20 if info.exists() else 0.0


def table(results: Results, titles: dict[str, str], codes: dict[str, int], names: dict[str, str]) -> str:
    """Markdown: a table for each step of each work, the quickest first."""
    lines: list[str] = []
    cells = results.groups()
    for work, title in titles.items():
        for step in dict.fromkeys(key[1] for key in cells if key[0] == work):
            rows = {key[2]: found for key, found in cells.items() if key[:2] == (work, step)}
            rate = codes[work] if step in {"backfill", "audit"} else None
            lines += ["", f"### {title}: {step}", "", *_rows(rows, names, rate)]
    return "\n".join(lines) + "\n"


def _rows(rows: dict[str, list[dict[str, Any]]], names: dict[str, str], codes: int | None) -> list[str]:
    columns = {name: told for name, told in COLUMNS.items() if name != "rate" or codes}
    head = ["", *(title for title, _ in columns.values()), "mirror"]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * len(columns) + " --- |"]
    good = {name: [one for one in found if "error" not in one] for name, found in rows.items()}
    for name in sorted(rows, key=lambda name: median(one["wall_s"] for one in good[name]) if good[name] else 1e9):
        if good[name]:
            cells = [_cell(good[name], column, form, codes) for column, (_, form) in columns.items()]
            mirror = "; ".join(dict.fromkeys(one["mirror"] for one in good[name] if one["mirror"] != "equal"))
            wrong = f"**wrong: {mirror}**" if mirror else ("equal" if good[name][0]["mirror"] else "")
            refused = sum(one["refused"] for one in good[name])
            lines.append(
                "| " + " | ".join([names[name], *cells, wrong + (f", {refused} x 429" if refused else "")]) + " |"
            )
        else:
            lines.append(f"| {names[name]} |" + " |" * len(columns) + " **failed** |")
    return lines


def _cell(found: list[dict[str, Any]], column: str, form: str, codes: int | None) -> str:
    if column == "rate":
        return form.format((codes or 0) / median(one["wall_s"] for one in found))
    values = [one[column] for one in found]
    spread = f" ({form.format(min(values))}-{form.format(max(values))})" if column in SPREAD and len(values) > 1 else ""
    return form.format(median(values)) + spread
