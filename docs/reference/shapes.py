"""What every command prints with `--json`, as types: json.md and json.schema.json are written from them.

A test reads what the commands print against the schema.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import make_dataclass
from datetime import datetime
from inspect import cleandoc
from typing import Any, get_type_hints
from uuid import UUID

import msgspec
from sqlalchemy import Table

from sync.audit.compare import Difference
from sync.cli.shapes import (
    AddedConnections,
    ChangedConnection,
    Checked,
    Generated,
    Imported,
    ListedConnections,
    Migrated,
    MovedRows,
    QueuedRows,
    Reencrypted,
    RemovedConnection,
    RotatedConnection,
)
from sync.mirror.discover import DiscoverReport
from sync.mirror.pull_report import PullReport
from sync.mirror.voucher_names import ListedVoucher
from sync.outbox.completer import PushReport
from sync.outbox.gap import Left
from sync.outbox.listing import NOT_SHOWN, Reason
from sync.outbox.tables import outbox, outbox_attempts
from sync.service.erasure import Erasure
from sync.service.roles import Mended
from sync.service.status.detail_facts import Details
from sync.service.status.facts import Backlog, ConnectionStatus, Daemon, MirrorState
from sync.service.status.verdict import Verdict

Field = tuple[str, Any] | tuple[str, Any, Any]


def _columns(table: Table, *left_out: str) -> list[Field]:
    return [
        (one.name, one.type.python_type | None if one.nullable else one.type.python_type)
        for one in table.c
        if one.name not in left_out
    ]


def _shape(name: str, meaning: str, fields: Iterable[Field]) -> type:
    shape = make_dataclass(name, fields, kw_only=True)
    shape.__doc__ = meaning
    return shape


def _counts_of(report: type, *more: str) -> list[Field]:
    counted = {"int": int, "bool": bool, int: int, bool: bool}
    found: list[Field] = [(n, counted[t]) for n, t in report.__annotations__.items() if t in counted]
    return [*found, *((name, int) for name in more)]


def _all_of(shape: type, *left_out: str) -> list[Field]:
    return [(name, kind) for name, kind in get_type_hints(shape).items() if name not in left_out]


UNSET: Any = msgspec.UNSET
NAMES: list[Field] = [("voucher_name", str | None)]
SECRET: list[Field] = [("value", str | None | msgspec.UnsetType, UNSET)]
SECRET += [("idempotency_key", str | None | msgspec.UnsetType, UNSET)]
IN_TABLE = "columns of `mews.voucher_code_outbox` (tables.md), and the voucher's name"

ListedRow = _shape(
    "ListedRow",
    f"A row: {IN_TABLE}. `value` and `idempotency_key` are there with `--values`; else `***` stands for the code.",
    [*_columns(outbox, *NOT_SHOWN, "value", "idempotency_key"), *NAMES, *SECRET],
)
MirroredCode = _shape(
    "MirroredCode",
    "A code of that text that the mirror has.",
    [
        ("id", UUID), ("voucher_id", UUID), ("is_active", bool), ("validity_start_utc", datetime | None),
        ("validity_end_utc", datetime | None), ("updated_utc", datetime | None), ("missing_since", datetime | None),
        *NAMES,
    ],
)  # fmt: skip
LISTED: list[Field] = [("rows", list[ListedRow]), ("counts", dict[str, int])]
Listed = _shape(
    "Listed",
    "The newest rows, and how many there are of each status. `mirrored`: with `--code`.",
    [*LISTED, ("mirrored", list[MirroredCode] | msgspec.UnsetType, UNSET)],
)
LoggedAttempt = _shape("LoggedAttempt", "One sending of the change.", _columns(outbox_attempts))
ShownRow = _shape(
    "ShownRow",
    f"A row: {IN_TABLE}, and its attempts.",
    [*_columns(outbox, *NOT_SHOWN), *NAMES, ("attempt_log", list[LoggedAttempt])],
)
Reasons = _shape("Reasons", "Why changes failed or wait, the most frequent first.", [("reasons", list[Reason])])
Vouchers = _shape("Vouchers", "What there is, by the names of hotel and voucher.", [("vouchers", list[ListedVoucher])])
ErasureOf = _shape("Erased", "Whether it is erased, and how much of what.", [("erased", bool), *_counts_of(Erasure)])
Discovered = _shape("Discovered", "What the discovery saw and wrote.", _counts_of(DiscoverReport, "refused"))
Pulled = _shape("Pulled", "What the pull read and wrote.", _counts_of(PullReport, "refused"))
Pushed = _shape("Pushed", "What was pushed, by what became of it.", _counts_of(PushReport))
Cycle = _shape(
    "Cycle",
    "What one cycle did; `ok`: all of it succeeded. `discovered` and `pulled` are null where they could not begin. "
    "`connections`: of several, which succeeded.",
    [
        ("ok", bool), ("discovered", Discovered | None), ("pulled", Pulled | None), ("pushed", Pushed),
        ("errors", list[str]), ("connections", dict[str, bool] | msgspec.UnsetType, UNSET),
    ],
)  # fmt: skip
ComparedVoucher = _shape(
    "ComparedVoucher",
    "One voucher's codes, by how they differ; `columns`: of those that differ, how often each column does.",
    [
        *((one.value, int) for one in Difference), ("columns", dict[str, int]), ("repaired", int),
        ("error", str | None),
    ],
)  # fmt: skip
Compared = _shape(
    "Compared",
    "What an audit found, by voucher. `errors`: why vouchers, or whole connections, could not be compared; `left_out`: "
    "vouchers that are not compared, since the API does not show them at present; `braked`: why it changed nothing.",
    [
        ("ok", bool), ("errors", list[str]), ("left_out", int), ("drift", int), ("repaired", int),
        ("braked", str | None), ("vouchers", dict[str, ComparedVoucher]),
    ],
)  # fmt: skip
Adopted = _shape(
    "Adopted",
    "What was done, released, cancelled and left held. `gap`: what there was to adopt, null where nothing was. "
    "`failed`: what was of unknown outcome and could not be looked up, or would fail if it were adopted now.",
    [
        ("gap", str | None), ("adopted", bool), ("done", int), ("released", int), ("cancelled", int), ("failed", int),
        ("left", Left), ("errors", list[str]),
    ],
)  # fmt: skip

Judged = _shape("Judged", Verdict.__doc__ or "", [*_all_of(Verdict, "level"), ("level", str)])
PARTS = (MirrorState, Backlog, Details)
Connection = _shape(
    "Connection",
    " ".join(str(kind.__doc__) for kind in (ConnectionStatus, *PARTS))
    + " Beside them stand the verdict, and what is told of all of them.",
    [
        *_all_of(ConnectionStatus, "mirror", "backlog", "details"), *(one for part in PARTS for one in _all_of(part)),
        ("verdict", Judged), ("daemons", list[Daemon]), ("revision", str), ("unassigned", dict[str, int]),
    ],
)  # fmt: skip

SHAPES: Mapping[str, Any] = {
    "adopt": Adopted,
    "audit": Compared,
    "check": Checked,
    "erase": ErasureOf,
    "connections add": ChangedConnection,
    "connections import": AddedConnections,
    "connections list": ListedConnections,
    "connections pause": ChangedConnection,
    "connections reencrypt": Reencrypted,
    "connections remove": RemovedConnection,
    "connections resume": ChangedConnection,
    "connections rotate": RotatedConnection,
    "migrate": Migrated,
    "once": Cycle,
    "outbox add": QueuedRows,
    "outbox cancel": MovedRows,
    "outbox delete": QueuedRows,
    "outbox extend": QueuedRows,
    "outbox generate": Generated,
    "outbox import": Imported,
    "outbox list": Listed,
    "outbox reasons": Reasons,
    "outbox release": MovedRows,
    "outbox replace": QueuedRows,
    "outbox retry": MovedRows,
    "outbox show": ShownRow,
    "roles": Mended,
    "status": list[Connection],
    "vouchers": Vouchers,
}
"""By its command."""


def schema() -> dict[str, Any]:
    """All shapes in JSON Schema: `commands` has each command's, `$defs` what they are made of. No others may stand."""
    shapes, parts = msgspec.json.schema_components(SHAPES.values(), ref_template="#/$defs/{name}")
    for part in parts.values():
        if part.get("type") == "object" and "properties" in part:
            part["additionalProperties"] = False
        part["description"] = " ".join(cleandoc(part.get("description", "")).split())
    of_commands = dict(zip(SHAPES, shapes, strict=True))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What voucher-sync prints with --json",
        "commands": of_commands,
        "$defs": parts,
    }


def pages(generated: str) -> dict[str, str]:
    """The schema, and the same for people, by their files' names; `generated` is what pages here begin with."""
    whole = schema()
    parts = [
        "# JSON",
        generated,
        "What commands print with `--json`, on one line on the standard output; notes and errors go to the standard "
        "error. [json.schema.json](json.schema.json) says the same to programs. Instants are ISO 8601, with their "
        "offset. New keys may come with any version; what is here changes its name or meaning only with a major one.",
        _table(
            ("command", "prints"),
            ((f"`voucher-sync {name}`", _words(shape)) for name, shape in whole["commands"].items()),
        ),
    ]
    for name, part in whole["$defs"].items():
        parts += [f"## {name}", part["description"]]
        if "enum" in part:
            parts.append(", ".join(f"`{one}`" for one in part["enum"]))
        else:
            optional = part["properties"].keys() - set(part["required"])
            rows = [
                (f"`{key}`", _words(shape) + (", if it is asked for" if key in optional else ""))
                for key, shape in part["properties"].items()
            ]
            parts.append(_table(("key", "type"), rows))
    schema_text = json.dumps(whole, indent=1, sort_keys=False)
    return {"json.md": "\n\n".join(parts) + "\n", "json.schema.json": schema_text + "\n"}


def _words(shape: Mapping[str, Any]) -> str:
    match shape:
        case {"$ref": reference}:
            name = str(reference).rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
        case {"anyOf": choices}:
            return " or ".join(map(_words, choices))
        case {"type": "array", "items": items}:
            return f"list of {_words(items)}"
        case {"type": "object", "additionalProperties": values}:
            return f"object of {_words(values)}"
        case _:
            return str(shape.get("format", shape.get("type", "anything"))).replace("date-time", "instant")


def _table(head: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
    lines = [head, ("---", "---"), *rows]
    return "\n".join(f"| {one} | {other} |" for one, other in lines)
