"""The scenes in which every point is tried: what stands before, what is queued, and how it must end."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sync.demo.simulator import Close, Fault, Operation

Ended = Literal["done", "failed"]


@dataclass(frozen=True, slots=True)
class Change:
    """One row of the outbox. Values of a scene are told apart by what stands behind the trial's own word."""

    operation: Literal["add", "delete"]
    suffix: str = ""
    by_id: bool = False
    ends: Ended = "done"


@dataclass(frozen=True, slots=True)
class Scene:
    """What is queued at once. `standing` are the codes that exist before, and `refused` those that the API refuses.

    `faults`: what goes wrong with the first call of an operation.
    """

    name: str
    changes: tuple[Change, ...]
    standing: tuple[str, ...] = ()
    refused: frozenset[str] = frozenset()
    faults: Mapping[Operation, Fault] = field(default_factory=dict)

    def made(self) -> Counter[str]:
        """How often each code is made in the end, whatever becomes of it then."""
        return Counter(self.standing) + self._done("add")

    def active(self) -> Counter[str]:
        """How often each code is active in the end."""
        return self.made() - self._done("delete")

    def _done(self, operation: str) -> Counter[str]:
        return Counter(one.suffix for one in self.changes if (one.operation, one.ends) == (operation, "done"))


SCENES = (
    Scene("an add", (Change("add"),)),
    Scene("a delete by value", (Change("delete"),), standing=("",)),
    Scene("a delete by id", (Change("delete", by_id=True),), standing=("",)),
    Scene("a code deleted and added again", (Change("delete"), Change("add")), standing=("",)),
    Scene(
        "three adds of which one is refused",
        (Change("add", "-1"), Change("add", "-2", ends="failed"), Change("add", "-3")),
        refused=frozenset({"-2"}),
    ),
    Scene("an add whose answer is lost", (Change("add"),), faults={Operation.ADD_CODES: Close(processed=True)}),
)
