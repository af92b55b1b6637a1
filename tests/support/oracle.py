"""Whether what the outbox says of its changes is what the API holds, and each end one that faults may bring about."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from sync.demo.comparison import COLUMNS
from sync.demo.simulator import Code, RequestRecord, Status
from tests.daemon.stress import Key
from tests.support.fault_profiles import WRITES
from tests.support.mirror import ACCESS_TOKEN, Mirror

Row = Mapping[str, Any]
NOTHING_TO_DELETE = "the API lists no such code for this connection"
STANDS_ALREADY = "A voucher code with the same value already exists"


class Oracle:
    """The rows, the codes and the requests after stress.

    A change may fail for nothing but a refusal of the API's own that it got alone: what failed beside others, what had
    no answer and what a proxy said are to be tried again.
    """

    def __init__(self, mirror: Mirror, rows: Sequence[Row], attempts: Sequence[Row]) -> None:
        self.codes = mirror.world.codes.truth
        self.rows: defaultdict[Key, list[Row]] = defaultdict(list)
        for row in sorted(rows, key=lambda row: row["id"]):
            self.rows[row["voucher_id"], row["value"]].append(row)
        self._attempts: defaultdict[int, list[Row]] = defaultdict(list)
        for attempt in sorted(attempts, key=lambda attempt: attempt["sent_at"]):
            self._attempts[attempt["outbox_id"]].append(attempt)
        self._writes = [record for record in mirror.simulator.requests if record.operation in WRITES]
        self._by_id = {record.request_id: record for record in self._writes}
        self.held: defaultdict[Key, list[Code]] = defaultdict(list)
        for code in self.codes.values():
            self.held[code.voucher_id, code.value or ""].append(code)

    def untrue(self, vouchers: Collection[UUID] | None = None) -> list[str]:
        """What is wrong with all or some vouchers where nobody else adds and deletes, with what explains it."""
        found = []
        for key, rows in self.rows.items():
            if vouchers is not None and key[0] not in vouchers:
                continue
            stood = [code for code in self.held[key] if code.value and code.value.startswith("OLD")][:1]
            states, wrong = self._replayed(rows, is_old=bool(stood))
            held = sorted(code.is_active for code in self.held[key])
            if wrong or sorted(states) != held:
                found.append(f"{wrong or 'the rows'} do not fit what the API holds ({held}):\n{self.story(key)}")
        return [*found, *self._untrue_ids(vouchers)]

    def refusal(self, row: Row) -> RequestRecord | None:
        """The API's own refusal of a change that was sent alone, or of another one of its voucher for the voucher."""
        record = self._by_id.get(row["request_id"])
        if row["status"] != "failed" or record is None or record.status not in {400, 403}:
            return None
        if isinstance(record.fault, Status) and record.fault.is_html:
            return None
        named = list(self.named(record))
        if len(named) != 1:
            return None
        ((voucher_id, value),) = named
        is_alike = voucher_id == row["voucher_id"] and row["last_error"] == "Invalid VoucherId"
        return record if is_alike or (voucher_id, value) == (row["voucher_id"], row["value"]) else None

    def named(self, record: RequestRecord) -> Iterator[Key]:
        """The codes that a write was for."""
        body = record.body or {}
        for item in body.get("VoucherCodeParameters", ()):
            yield UUID(item["VoucherId"]), item["Value"]
        for code_id in body.get("VoucherCodeIds", ()):
            code = self.codes[UUID(code_id)]
            yield code.voucher_id, code.value or ""

    def story(self, key: Key) -> str:
        """Everything that happened to the codes of a value: rows, their attempts, the requests and the codes."""
        lines = [f"voucher {key[0]}, value {key[1]}"]
        for row in self.rows[key]:
            lines.append("  row " + ", ".join(f"{name}={value}" for name, value in row.items() if value is not None))
            lines += [f"    attempt {dict(attempt)}" for attempt in self._attempts[row["id"]]]
        for record in self._writes:
            if key in (named := list(self.named(record))):
                lines.append(
                    f"  request {record.number} at {record.arrived_s:.2f} {record.operation} of {len(named)}: "
                    f"{record.status}, {record.fault}, {record.request_id}"
                )
        return "\n".join([*lines, *(f"  code {code}" for code in self.held[key])])

    def tell(self, name: str, kills: int) -> str:
        """What the stress was made of, in a line."""
        faults = Counter(type(record.fault).__name__ for record in self._writes if record.fault)
        rows = [row for same in self.rows.values() for row in same]
        ended = Counter(f"{row['operation']} {row['status']}" for row in rows)
        return (
            f"{name}: {len(rows)} changes, {len(self._writes)} writes, {kills} kills; {dict(ended)}; "
            f"faults: {dict(faults)}"
        )

    def _replayed(self, rows: Sequence[Row], *, is_old: bool) -> tuple[list[bool], list[Any]]:
        """The codes that there should be by what the rows say, as active or not; and what no row may say."""
        states, wrong = [True] if is_old else [], []
        for number, row in enumerate(rows):
            match row["operation"], row["status"]:
                case "add", "done":
                    states.append(True)
                case "delete", "done" if states.count(True) == 1:
                    states[states.index(True)] = False
                case "add", "cancelled" if _was_taken_back(row, rows[number + 1 :]):
                    pass
                case "delete", "cancelled" if number and _was_taken_back(rows[number - 1], rows[number:]):
                    pass
                case "delete", "failed" if not any(states) and row["last_error"] == NOTHING_TO_DELETE:
                    pass
                case "add", "failed" if any(states) and row["last_error"] == STANDS_ALREADY and self.refusal(row):
                    pass
                case _, "failed" if (record := self.refusal(row)) and record.fault:
                    pass
                case _:
                    wrong.append((row["id"], row["operation"], row["status"]))
        return states, wrong

    def _untrue_ids(self, vouchers: Collection[UUID] | None) -> list[str]:
        """A change that is done names a code of its own that has its value, and a delete one that is not active."""
        found, named = [], set[tuple[str, UUID]]()
        for key, rows in self.rows.items():
            if vouchers is not None and key[0] not in vouchers:
                continue
            for row in (row for row in rows if row["status"] == "done"):
                code, use = self.codes.get(row["voucher_code_id"]), (row["operation"], row["voucher_code_id"])
                is_its_own = code is not None and (code.voucher_id, code.value) == key and use not in named
                if not is_its_own or (row["operation"] == "delete" and code and code.is_active):
                    found.append(f"row {row['id']} names a code that is not its own:\n{self.story(key)}")
                named.add(use)
        return found


def _was_taken_back(row: Row, following: Sequence[Row]) -> bool:
    """Whether an add was cancelled by the delete behind it before it was sent."""
    return (
        (row["operation"], row["status"], row["attempts"]) == ("add", "cancelled", 0)
        and bool(following)
        and following[0]["operation"] == "delete"
    )


async def consult(mirror: Mirror) -> Oracle:
    """After stress."""
    rows = await mirror.rows("SELECT * FROM mews.voucher_code_outbox")
    attempts = await mirror.rows("SELECT * FROM mews.voucher_code_outbox_attempts")
    return Oracle(mirror, rows, attempts)


async def differences(mirror: Mirror) -> list[str]:
    """Codes that are not the same in the mirror and in the API, on both sides, with their stories."""
    rows = {row["id"]: row for row in await mirror.rows("SELECT * FROM mews.voucher_codes")}
    truth, after = mirror.world.codes_visible_to(ACCESS_TOKEN), await consult(mirror)
    here = {id_: {name: row[name] for name in COLUMNS} for id_, row in rows.items()}
    there = {id_: {name: getattr(code, name) for name in COLUMNS} for id_, code in truth.items()}
    return [
        f"mirrored as {rows.get(id_)}\n{after.story(key)}"
        for id_ in here.keys() | there.keys()
        if here.get(id_) != there.get(id_)
        for key in {(code["voucher_id"], code["value"]) for code in (here.get(id_), there.get(id_)) if code}
    ]
