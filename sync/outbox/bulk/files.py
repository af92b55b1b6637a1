"""Files of voucher codes to add: one line for each code, read without any knowledge of what is queued already.

No message quotes the file: it holds codes.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import chain
from typing import NamedTuple, TextIO
from uuid import UUID

from sync.core.errors import VoucherSyncError
from sync.core.instants import parse_instant
from sync.core.plurals import plural
from sync.outbox.bulk.patterns import MAX_VALUE_LENGTH
from sync.outbox.bulk.spreadsheets import damage, separator

COLUMNS = ("value", "voucher_id", "validity_start_utc", "validity_end_utc", "not_before", "note", "idempotency_key")
DELIMITERS = ",;\t"
MAX_LINE_LENGTH = 10_000

# What a first line may say that is meant as a header: queued as a code, it would be one that everybody knows.
_HEADER_WORDS = {*COLUMNS, "code", "codes", "values", "voucher", "vouchers", "vouchercode", "voucher_code", "coupon"}
# So begins what an editor, browser or program saves that is told to save no text: each line of it would be a code.
_FORMATS = {
    "RTF": re.compile(r"\{\\rtf"),
    "PDF": re.compile(r"%PDF-\d"),
    "HTML or XML": re.compile(r"<[!?a-z]", re.IGNORECASE),
    "JSON": re.compile(r"[\[{]\s*([\[{\"]|$)"),
}
_UNREADABLE = re.compile("[\ud800-\udfff\ufffd]")
_BLANK = re.compile(r"[\s,;]*")
_RULE = re.compile(r"([-=_*~#+.])\1{2,}")
"""A line that a text or its front matter is divided by."""

AS_TEXT = "save the column as text, or give --as-is if the code is meant so"
UNBROKEN = "no field, as a note, may hold a line break"
_TOO_LONG = f"has more than {MAX_LINE_LENGTH:,} characters"
_NOT_UTF8 = "is not a text in UTF-8: save the file as CSV in UTF-8"


class CodeLine(NamedTuple):
    """A line that asks for a code."""

    line: int
    voucher_id: UUID
    value: str
    validity_start_utc: datetime | None = None
    validity_end_utc: datetime | None = None
    not_before: datetime | None = None
    note: str | None = None
    idempotency_key: str | None = None


class BadLine(NamedTuple):
    """A line that cannot be queued, and why."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a file, and what stands between them; `has_header` if the first line names them."""

    columns: tuple[str, ...]
    delimiter: str = ","
    has_header: bool = True


def numbered_lines(text: TextIO) -> Iterator[tuple[int, str | None]]:
    """The lines, counted from 1; None for one that is too long, of which no more than that is ever in memory."""
    number = 0
    while line := text.readline(MAX_LINE_LENGTH + 1):
        number += 1
        if line.endswith("\n"):
            yield number, line[:-1]
        elif len(line) <= MAX_LINE_LENGTH:
            yield number, line
        else:
            while line and not line.endswith("\n"):
                line = text.readline(MAX_LINE_LENGTH + 1)
            yield number, None


def skip_to_layout(lines: Iterator[tuple[int, str | None]]) -> tuple[Layout, Iterator[tuple[int, str | None]]]:
    """What the first line that is not blank tells about the file, and the lines with codes.

    A line before it, as Excel's `sep=;`, says what stands between columns. `VoucherSyncError` if there is no line.
    """
    delimiters = DELIMITERS
    for number, text in lines:
        if text is not None and _BLANK.fullmatch(text):
            continue
        if text is not None and (said := separator(text)) is not None:
            if said not in DELIMITERS:
                raise VoucherSyncError("the file's first line names a separator that is no comma, semicolon or tab")
            delimiters = said
            continue
        layout = read_layout(text, delimiters)
        return layout, lines if layout.has_header else chain([(number, text)], lines)
    raise VoucherSyncError("the file is empty: give it a line for each code")


def read_layout(first: str | None, delimiters: str = DELIMITERS) -> Layout:
    """What the first line tells about the file; None is one that is too long to be read. `VoucherSyncError` if nothing.

    A first line that names no column is a code already, in a file that holds one on each line.
    """
    if first is None:
        raise VoucherSyncError(f"the file's first line {_TOO_LONG}: give the file a line for each code")
    if _UNREADABLE.search(first) or "\0" in first:
        raise VoucherSyncError(f"the file's first line {_NOT_UTF8}")
    # The one that stands there most often first: a tab behind a single name would be taken for a blank by the others.
    for delimiter in sorted(delimiters, key=first.count, reverse=True):
        names = [re.sub(r"[\s-]+", "_", name.strip().casefold()) for name in _split(first, delimiter) or ()]
        while names and not names[-1]:
            names.pop()  # a spreadsheet saves columns that were used once
        if "value" in names:
            return Layout(_known(names), delimiter)
    for name, beginning in _FORMATS.items():
        if beginning.match(first.strip()):
            raise VoucherSyncError(
                f"the file begins as {name} does: save it as CSV or plain text, or put a line `value` in front if its "
                "first line is a code"
            )
    if any(len(_split(first, delimiter) or ()) != 1 for delimiter in DELIMITERS):
        raise VoucherSyncError(
            "the file's first line names no column `value`: begin the file with a line such as "
            "`value;validity_end_utc`, or give one code on each line and nothing else"
        )
    if not _HEADER_WORDS.isdisjoint(re.split(r"\W+", first.casefold())):
        raise VoucherSyncError(
            "the file's first line looks like the names of columns, and none of them is `value`: name it so (columns "
            "are separated by a comma, a semicolon or a tab), or put a line `value` in front if that line is a code"
        )
    return Layout(("value",), delimiters[0], has_header=False)


def read_lines(
    lines: Iterable[tuple[int, str | None]], layout: Layout, voucher_id: UUID | None, *, as_is: bool = False
) -> Iterator[CodeLine | BadLine]:
    """Each line, read, with `voucher_id` if it names none. A line that is None is too long; blank ones are skipped.

    Behind a line that opens a quote none is read before one has ended it: the middle of a cell would be a code. With
    `as_is`, a value that looks as if a spreadsheet had damaged it is taken as it stands.
    """
    opened: int | None = None
    for number, text in lines:
        if text is None:
            yield BadLine(number, _TOO_LONG)
        elif _BLANK.fullmatch(text):
            continue
        elif opened is None:
            try:
                if line := _read(number, text, layout, voucher_id, as_is=as_is):
                    yield line
            except ValueError as error:
                yield BadLine(number, str(error))
            if _split(text, layout.delimiter) is None and _may_go_on(text, layout.delimiter):
                opened = number
        elif _split(f'"{text}', layout.delimiter) is None:
            yield BadLine(number, f"may belong to the quote that line {opened} opens: {UNBROKEN}")
        else:
            yield BadLine(number, f"ends the quote that line {opened} opens: {UNBROKEN}")
            opened = None


def _known(names: list[str]) -> tuple[str, ...]:
    for position, name in enumerate(names, 1):
        if name not in COLUMNS:
            known = ", ".join(COLUMNS)
            raise VoucherSyncError(f"column {position} of the file is unknown: the first line may name {known}")
        if names.index(name) < position - 1:
            raise VoucherSyncError(f"the file's first line names the column `{name}` twice")
    return tuple(names)


def _split(text: str, delimiter: str) -> list[str] | None:
    """The fields of a line; None if its quotes are not closed. Lines are never joined."""
    if '"' not in text:
        return text.split(delimiter)
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True, skipinitialspace=True))
    except csv.Error:
        return None


def _may_go_on(text: str, delimiter: str) -> bool:
    """Whether a line whose quotes are wrong may end in the middle of a cell: they are odd, or the last ends no field.

    To tell too many lines as bad costs a look at the file; one too few, and a part of a note is sold as a code.
    """
    behind = text.rpartition('"')[2].lstrip(" ")
    return text.count('"') % 2 == 1 or not (behind == "" or behind.startswith(delimiter))


def _read(number: int, text: str, layout: Layout, voucher_id: UUID | None, *, as_is: bool) -> CodeLine | None:
    """A line; None for one whose fields are all empty."""
    if not text.isascii() and _UNREADABLE.search(text):
        raise ValueError(_NOT_UTF8)
    if "\0" in text:
        raise ValueError("holds a NUL byte")
    fields = _split(text, layout.delimiter)
    if fields is None:
        raise ValueError(f"has a quote that is not closed: quotes come in pairs, and {UNBROKEN}")
    fields = [field.strip() for field in fields]
    if not any(fields):
        return None
    while len(fields) > len(layout.columns) and not fields[-1]:
        fields.pop()
    if len(fields) != len(layout.columns):
        if len(layout.columns) == 1 and not as_is and (trace := damage(text.strip())):
            raise ValueError(f"value: {trace}; {AS_TEXT}")  # with a comma in it, as in half of Europe
        raise ValueError(f"has {plural(len(fields), 'column')}, and the first line has {len(layout.columns)}")
    others = DELIMITERS.replace(layout.delimiter, "")
    if len(fields) == 1 and any(one in text and len(_split(text, one) or ()) != 1 for one in others):
        raise ValueError("has more than one column, and the first line has one (a code with a , or ; is put in quotes)")
    given = {name: words for name, words in zip(layout.columns, fields, strict=True) if words}
    start, end = _instant(given, "validity_start_utc"), _instant(given, "validity_end_utc")
    if start and end and end < start:
        raise ValueError("validity_end_utc: lies before validity_start_utc")
    return CodeLine(
        number,
        _voucher(given.get("voucher_id"), voucher_id),
        _value(given.get("value", ""), as_is=as_is),
        start,
        end,
        _instant(given, "not_before"),
        given.get("note"),
        given.get("idempotency_key"),
    )


def _value(words: str, *, as_is: bool) -> str:
    if not 1 <= len(words) <= MAX_VALUE_LENGTH:
        size = f"has {plural(len(words), 'character')}, the API takes 1 to {MAX_VALUE_LENGTH}" if words else "is empty"
        raise ValueError(f"value: {size}")
    if not words.isprintable():
        raise ValueError("value: holds a character that nobody can see or type")
    if not as_is and (trace := damage(words)):
        raise ValueError(f"value: {trace}; {AS_TEXT}")
    if not as_is and _RULE.fullmatch(words):
        raise ValueError("value: is a line that a text is divided by; give --as-is if the code is meant so")
    return words


def _instant(given: dict[str, str], name: str) -> datetime | None:
    if (words := given.get(name)) is None:
        return None
    try:
        return parse_instant(words)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _voucher(words: str | None, default: UUID | None) -> UUID:
    if words is not None:
        return _uuid(words)
    if default is None:
        raise ValueError("voucher_id: is missing; name the voucher in the line, or all lines' with --voucher")
    return default


@lru_cache(maxsize=1024)
def _uuid(words: str) -> UUID:
    try:
        return UUID(words)
    except ValueError:
        raise ValueError("voucher_id: is no id, such as 11111111-2222-3333-4444-555555555555") from None
