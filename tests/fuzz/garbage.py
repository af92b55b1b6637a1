"""Answers that no sane API would give, and records that it might; the same for the same seed."""

import json
import random
from collections.abc import Sequence
from typing import Any
from uuid import UUID

INSTANTS = (
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-14:00",
    "10000-01-01T00:00:00Z",
    "-0001-01-01T00:00:00Z",
    "2026-02-30T00:00:00Z",
    "2026-06-01T12:00:00",
    "2026-06-01T12:00:00.123456789Z",
    "2026-06-01",
    "",
)
TEXTS = (
    "",
    " ",
    "\x00",
    "A\x00B",
    "\ud800",
    "\udfff\ud800",
    "🎉",
    "\u202e",
    "x" * 129,
    "null",
    "'; DROP TABLE x; --",
    "\\u0000",
)
DEPTHS = (10, 300, 3000)
NUMBERS = (0, -1, 1.5, 1e308, -1e308, 2**63, 2**64, 10**400, float("nan"), float("inf"))
BODIES = (
    b"",
    b"null",
    b"[]",
    b"{}",
    b'"VoucherCodes"',
    b"\xff\xfe",
    b'{"VoucherCodes": null}',
    b'{"VoucherCodes": {}}',
    b'{"VoucherCodes": [], "Cursor": 7}',
    b'{"VoucherCodes": [',
    b'{"VoucherCodes": []} trailing',
    b"[" * 100_000,
    b'{"VoucherCodes": ' + b"[" * 5000 + b"]" * 5000 + b"}",
)


class Garbage:
    """Draws from `seed`. Codes belong to one of the vouchers, or pretend to."""

    def __init__(self, seed: int, voucher_ids: Sequence[UUID] = ()) -> None:
        self._rng = random.Random(seed)
        self._voucher_ids = list(voucher_ids) or [self.uuid()]

    def uuid(self) -> UUID:
        """A new id."""
        return UUID(int=self._rng.getrandbits(128))

    def anything(self, depth: int = 3) -> Any:
        """Any JSON value."""
        if depth and self._rng.random() < 0.3:
            return self._compound(depth - 1)
        return self._rng.choice(
            (None, True, False, str(self.uuid()), *(self._rng.choice(some) for some in (NUMBERS, TEXTS, INSTANTS)))
        )

    def _compound(self, depth: int) -> Any:
        count = self._rng.randrange(4)
        match self._rng.randrange(3):
            case 0:
                return [self.anything(depth) for _ in range(count)]
            case 1:
                return {self._rng.choice(TEXTS): self.anything(depth) for _ in range(count)}
        return self.nested(self._rng.choice(DEPTHS))

    def nested(self, depth: int) -> Any:
        """A list in a list in a list; written as text later, since Python's own writer does not go so deep."""
        return f"@nested {depth}@"

    def good_code(self) -> dict[str, Any]:
        """A code as the API shows it, with a field that nobody knows now and then."""
        code: dict[str, Any] = {
            "Id": str(self.uuid()),
            "VoucherId": str(self._rng.choice(self._voucher_ids)),
            "Value": self._rng.choice((None, "SUMMER", "🎉" * 128, "x" * 128)),
            "ValidityStartUtc": self._rng.choice((None, "2026-06-01T12:00:00Z", "0001-01-01T00:00:00Z")),
            "ValidityEndUtc": self._rng.choice((None, "9999-12-31T23:59:59Z")),
            "CreatedUtc": self._rng.choice((None, "2026-06-01T12:00:00Z")),
            "UpdatedUtc": self._rng.choice((None, "2026-06-01T12:00:00Z")),
            "IsActive": self._rng.random() < 0.5,
        }
        if self._rng.random() < 0.2:
            code["Unknown"] = self.anything(2)
        return code

    def bad_code(self) -> Any:
        """A code that is spoiled in a field, or no code at all."""
        if self._rng.random() < 0.2:
            return self.anything()
        code = self.good_code()
        field = self._rng.choice(list(code))
        if self._rng.random() < 0.2:
            del code[field]
        else:
            code[field] = self.anything()
        return code

    def page(self) -> tuple[bytes, list[UUID]]:
        """A body with codes, good ones and bad ones, and the ids of those that are certainly good."""
        items, good = list[Any](), list[UUID]()
        for _ in range(self._rng.randrange(8)):
            if self._rng.random() < 0.6:
                code = self.good_code()
                items.append(code)
                if "Unknown" not in code:
                    good.append(UUID(code["Id"]))
                if self._rng.random() < 0.1:
                    items.append(code)
            else:
                items.append(self.bad_code())
        self._rng.shuffle(items)
        cursor = self._rng.choice((None, str(self.uuid())))
        return self.written({"VoucherCodes": items, "Cursor": cursor}), good

    def body(self) -> tuple[bytes, list[UUID]]:
        """A page, or something that is none."""
        chance = self._rng.random()
        if chance < 0.7:
            return self.page()
        if chance < 0.8:
            return self._rng.choice(BODIES), []
        if chance < 0.9:
            body = bytearray(self.page()[0])
            for _ in range(self._rng.randint(1, 4)):
                body[self._rng.randrange(len(body))] = self._rng.randrange(256)
            return bytes(body), []
        return self.written(self.anything()), []

    @staticmethod
    def written(value: Any) -> bytes:
        """JSON, with what is nested deeply put in as text."""
        text = json.dumps(value)
        for depth in DEPTHS:
            text = text.replace(f'"@nested {depth}@"', "[" * depth + "]" * depth)
        return text.encode()
