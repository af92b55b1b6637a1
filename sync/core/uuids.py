"""A column of ids, read in one go: as bytes for whoever stores them, as UUIDs only for whoever asks for those."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import overload
from uuid import UUID

import msgspec

CHARACTERS, BYTES = 36, 16
HYPHENS = (8, 13, 18, 23)


class UuidColumn(Sequence[UUID]):
    """Ids from their texts, all of them written as the API does: `8-4-4-4-12` hexadecimal digits, either case.

    ValueError for any other way of writing one. `packed`: 16 bytes for each, in order.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        joined = "".join(texts)
        if len(joined) != CHARACTERS * len(texts) or not all(map(CHARACTERS.__eq__, map(len, texts))):
            raise ValueError("an id does not have 36 characters")
        if any(joined[at::CHARACTERS].strip("-") for at in HYPHENS):
            raise ValueError("an id has no hyphen where one belongs")
        self.packed = bytes.fromhex(joined.replace("-", ""))
        # `fromhex` skips spaces, and a hyphen too many has left a digit too few.
        if len(self.packed) != BYTES * len(texts):
            raise ValueError("an id does not have 32 digits")
        self._texts = texts

    def is_distinct(self) -> bool:
        """Whether none comes twice."""
        return len({self.packed[at : at + BYTES] for at in range(0, len(self.packed), BYTES)}) == len(self)

    def counts(self) -> Counter[UUID]:
        """How often each one comes."""
        counts = Counter[UUID]()
        for text, count in Counter(self._texts).items():
            counts[UUID(text)] += count
        return counts

    def __len__(self) -> int:
        return len(self._texts)

    def __iter__(self) -> Iterator[UUID]:
        return iter(msgspec.convert(self._texts, list[UUID]))

    @overload
    def __getitem__(self, index: int) -> UUID: ...
    @overload
    def __getitem__(self, index: slice) -> "UuidColumn": ...
    def __getitem__(self, index: int | slice) -> "UUID | UuidColumn":
        return UUID(self._texts[index]) if isinstance(index, int) else UuidColumn(self._texts[index])
