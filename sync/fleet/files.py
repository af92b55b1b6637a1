"""Files of connections to add: CSV with a line for each, whose tokens no message quotes."""

import csv
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from typing import TYPE_CHECKING

from sync.core.errors import VoucherSyncError
from sync.core.names import composed
from sync.fleet.changes import NewConnection, why_no_name

if TYPE_CHECKING:
    from _csv import Reader

COLUMNS = ("name", "access_token", "client_token", "platform_address")
REQUIRED = ("name", "access_token")
DELIMITERS = ",;\t"
NAMES_DELIMITER = "sep="
"""How a line begins that tells a spreadsheet the delimiter."""
LONGEST_HEADER = 1000

Check = Callable[[str], str]
"""Takes what was given, and returns it as it counts, or raises `ValueError` with what is wrong, without the value."""


@dataclass(frozen=True, slots=True)
class Checks:
    """What a token and an address must be."""

    token: Check
    platform_address: Check


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that names no connection that can be added, and why."""

    line: int
    reason: str


def read_connections(content: str, checks: Checks, default_address: str) -> tuple[list[NewConnection], list[BadLine]]:
    """The connections of a file, and its lines that name none.

    `VoucherSyncError` where its first line does not name the columns, or none follows. Spreadsheets may write a line
    before it that names the delimiter, and blank ones.
    """
    rows = csv.reader(StringIO(content, newline=""), delimiter=_delimiter_of(content))
    header = _header(rows)
    _check_columns(header)
    found: list[NewConnection] = []
    bad: list[BadLine] = []
    lines_of: dict[str, int] = {}
    for line, row in _numbered(rows, bad):
        cells = _without_empty([cell.strip() for cell in row])
        try:
            new = _read(dict(zip(header, cells, strict=False)), len(cells) - len(header), checks, default_address)
        except ValueError as error:
            bad.append(BadLine(line, str(error)))
            continue
        if (before := lines_of.setdefault(new.name, line)) != line:
            bad.append(BadLine(line, f"name: line {before} has the same"))
        else:
            found.append(new)
    if not found and not bad:
        raise VoucherSyncError("the file names no connection: give each a line behind the one that names the columns")
    return found, bad


def _delimiter_of(content: str) -> str:
    first = next((line for line in content[:LONGEST_HEADER].splitlines() if line.strip()), "")
    return max(DELIMITERS, key=first.count)


def _header(rows: "Reader") -> list[str]:
    """The names of the columns: the first line that is neither blank nor a delimiter's; none if it cannot be read."""
    with suppress(csv.Error):
        for row in rows:
            columns = _without_empty([name.strip().casefold() for name in row])
            if columns and not columns[0].startswith(NAMES_DELIMITER):
                return columns
    return []


def _without_empty(cells: list[str]) -> list[str]:
    """Cells without those behind the last that holds something: a spreadsheet saves columns that were used once."""
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _check_columns(columns: list[str]) -> None:
    missing = [name for name in REQUIRED if name not in columns]
    unknown = [name for name in columns if name not in COLUMNS]
    if missing or unknown or len(set(columns)) < len(columns):
        # What stands there may be a token, in a file without a header.
        raise VoucherSyncError(
            f"the file's first line must name its columns, each once: {', '.join(COLUMNS)}, of which the last two may "
            f"be left out"
        )


def _numbered(rows: "Reader", bad: list[BadLine]) -> Iterator[tuple[int, list[str]]]:
    """Each row with the line that it begins on: a quote that is not closed takes those behind it along."""
    while True:
        line = rows.line_num + 1
        try:
            row = next(islice(rows, 1), None)
        except csv.Error:
            bad.append(BadLine(line, "cannot be read as CSV"))
            continue
        if row is None:
            return
        if any(one.strip() for one in row):
            yield line, row


def _read(cells: dict[str, str], surplus: int, checks: Checks, default_address: str) -> NewConnection:
    if surplus > 0:
        raise ValueError("has more columns than the first line names")
    name = composed(cells.get("name", ""))
    if reason := why_no_name(name):
        raise ValueError(f"name: {reason}")
    if not cells.get("access_token"):
        raise ValueError("access_token: is missing")
    client_token = cells.get("client_token", "")
    return NewConnection(
        name,
        _checked("platform_address", checks.platform_address, cells.get("platform_address") or default_address),
        _checked("access_token", checks.token, cells["access_token"]),
        _checked("client_token", checks.token, client_token) if client_token else None,
    )


def _checked(column: str, check: Check, value: str) -> str:
    try:
        return check(value)
    except ValueError as error:
        raise ValueError(f"{column}: {error}") from None
