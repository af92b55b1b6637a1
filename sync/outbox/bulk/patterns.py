"""Patterns of voucher codes, such as `XMAS-####-????`, and the codes that they stand for."""

import math
import secrets
from dataclasses import dataclass

from sync.core.plurals import plural

DIGITS = "0123456789"
UNAMBIGUOUS = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"
"""Digits and letters that nobody takes for another one: without 0 and O, and without 1, I and L."""
ALPHABETS = {"#": DIGITS, "?": UNAMBIGUOUS}
MAX_VALUE_LENGTH = 128
COMBINATIONS_PER_CODE = 1000
"""At so many, one of a thousand guesses is a code."""


@dataclass(frozen=True, slots=True)
class CodePattern:
    """`#` stands for a digit, `?` for one of `UNAMBIGUOUS`, and whatever else for itself."""

    text: str

    @property
    def combinations(self) -> int:
        """How many codes it stands for."""
        return math.prod(len(ALPHABETS[one]) for one in self.text if one in ALPHABETS)

    def code(self, number: int) -> str:
        """The code with this number, from 0 to `combinations - 1`; two numbers never have the same code."""
        letters = []
        for one in self.text:
            if alphabet := ALPHABETS.get(one):
                number, position = divmod(number, len(alphabet))
                letters.append(alphabet[position])
            else:
                letters.append(one)
        return "".join(letters)

    def refusal(self, count: int) -> str | None:
        """Why it is not fit for `count` codes, and what to do; None if it is."""
        if len(self.text) > MAX_VALUE_LENGTH:
            return f"has {plural(len(self.text), 'character')}, and a code may have {MAX_VALUE_LENGTH}: shorten it"
        if self.text != self.text.strip() or not self.text.isprintable():
            return "has spaces around it, or a character that nobody can see or type: remove them"
        needed = count * COMBINATIONS_PER_CODE
        if self.combinations >= needed:
            return None
        missing = next(extra for extra in range(1, 1000) if self.combinations * len(UNAMBIGUOUS) ** extra >= needed)
        return (
            f"has {plural(self.combinations, 'combination')}, and so that nobody guesses a code it must have "
            f"{needed:,}: put {missing} more ? into it"
            f"{f', or ask for at most {fits:,}' if (fits := self._fits) else ''}"
        )

    @property
    def _fits(self) -> int:
        return self.combinations // COMBINATIONS_PER_CODE


def draw(combinations: int, count: int, drawn: set[int]) -> list[int]:
    """`count` numbers below `combinations` that nobody can foretell, none of them in `drawn`, which they join."""
    numbers: list[int] = []
    while len(numbers) < count:
        number = secrets.randbelow(combinations)
        if number not in drawn:
            drawn.add(number)
            numbers.append(number)
    return numbers
