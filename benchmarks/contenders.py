"""Who is measured side by side: ours, other ways to the same mirror, and the floors beneath them all."""

import sys
from dataclasses import dataclass
from pathlib import Path

from database import EMPTY, MIGRATED

HERE = Path(__file__).parent
PEERS = HERE / "peers"
PEERS_BIN = HERE.parent / ".venv-peers" / "bin"
"""An environment of their own: neither the runtime nor the tests carry what they need."""
OURS_COLUMNS = "id, voucher_id, value, validity_start_utc, validity_end_utc, created_utc, updated_utc, is_active"
INSTANTS = ("ValidityStartUtc", "ValidityEndUtc", "CreatedUtc", "UpdatedUtc")
API_COLUMNS = ", ".join(
    ('"Id"::uuid', '"VoucherId"::uuid', '"Value"', *(f'"{name}"::timestamptz' for name in INSTANTS), '"IsActive"')
)
"""Singer's target keeps instants without a zone, as UTC, which the session that compares has too."""
PEER_COLUMNS = OURS_COLUMNS.replace("id, voucher_id", "id::uuid, voucher_id::uuid")


@dataclass(frozen=True, slots=True)
class Contender:
    """A command that mirrors the codes once, and the query of its mirror's rows; a floor keeps none that count.

    `{rows}` in the command stands for a file of the codes as COPY takes them. `follows`: whether it is run again once
    something has changed.
    """

    name: str
    title: str
    command: tuple[str, ...]
    rows: str | None
    template: str = EMPTY
    follows: bool = True


def _python(script: str, *arguments: str) -> tuple[str, ...]:
    return (str(PEERS_BIN / "python"), str(PEERS / script), *arguments)


OURS = Contender(
    "ours",
    "voucher-sync once",
    (sys.executable, "-m", "sync", "once", "--json"),
    f"SELECT {OURS_COLUMNS} FROM mews.voucher_codes WHERE missing_since IS NULL",
    MIGRATED,
)
READ = Contender("read", "floor: every page read, thrown away", _python("read_all.py"), None, follows=False)
COPY = Contender(
    "copy",
    "floor: COPY into our table, with its indexes",
    _python("copy_rows.py", "{rows}"),
    f"SELECT {OURS_COLUMNS} FROM mews.voucher_codes",
    MIGRATED,
    follows=False,
)
CONTENDERS = (
    OURS,
    Contender("dlt-arrow", "dlt, Arrow tables, replace", _python("dlt_arrow.py"),
              f"SELECT {PEER_COLUMNS} FROM peer.voucher_codes"),
    Contender("script", "one-hour script", _python("script.py"), f"SELECT {API_COLUMNS} FROM voucher_codes"),
    Contender("dlt-merge", "dlt, merge", _python("dlt_merge.py"), f"SELECT {PEER_COLUMNS} FROM peer.voucher_codes"),
    Contender("singer", "Singer, target-postgres with COPY",
              ("sh", str(PEERS / "singer.sh"), str(PEERS_BIN), str(PEERS / "singer_tap.py")),
              f"SELECT {API_COLUMNS} FROM peer.voucher_codes"),
    READ,
    COPY,
)  # fmt: skip
