"""The scenes in which every point is tried: what stands before, what is queued, and how it must end.

In some of them the database has lost commits, and the process is the one that adopts it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sync.demo.simulator import Close, Fault, Operation
from sync.service.adoption import Rest

Ended = Literal["done", "failed", "cancelled"]
ONCE_READ = "outbox/lookups.py"
"""In adopting, behind the pull."""


@dataclass(frozen=True, slots=True)
class Change:
    """One row of the outbox. Values of a scene are told apart by what stands behind the trial's own word.

    `was_tried`: it was sent before the next one was queued, and not processed. Where commits are lost all were carried
    out before that, unless their user `took_back` what he asked for, which is lost as well. `follows`: it waits until
    the one before it is done.
    """

    operation: Literal["add", "delete"]
    suffix: str = ""
    by_id: bool = False
    ends: Ended = "done"
    was_tried: bool = False
    took_back: bool = False
    follows: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """What is queued at once. `standing` are the codes that exist before, and `refused` those that the API refuses.

    `faults`: what goes wrong with the first call of an operation. `adopted`: what becomes of the rest when the database
    is adopted, which has lost all commits since the changes were queued; None: it has lost none, and they are pushed.
    `way`: with the first point in this file something can go wrong; what was before only reads, or is tried elsewhere.
    """

    name: str
    changes: tuple[Change, ...]
    standing: tuple[str, ...] = ()
    refused: frozenset[str] = frozenset()
    faults: Mapping[Operation, Fault] = field(default_factory=dict)
    adopted: Rest | None = None
    way: str = "service/outbox_worker.py"

    @property
    def command(self) -> tuple[str, ...]:
        """The words of the process in which something goes wrong."""
        return ("adopt", f"--{self.adopted}") if self.adopted else ("once",)

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
    Scene("a code replaced", (Change("add", "-2"), Change("delete", "-1", by_id=True, follows=True)), standing=("-1",)),
    Scene("a code deleted and added again", (Change("delete"), Change("add")), standing=("",)),
    Scene(
        "three adds of which one is refused",
        (Change("add", "-1"), Change("add", "-2", ends="failed"), Change("add", "-3")),
        refused=frozenset({"-2"}),
    ),
    Scene("an add whose answer is lost", (Change("add"),), faults={Operation.ADD_CODES: Close(processed=True)}),
    Scene(
        "three adds that are adopted, of which two were made",
        (Change("add", "-1"), Change("add", "-2"), Change("add", "-3", took_back=True)),
        adopted=Rest.RELEASE,
        way="service/adoption.py",
    ),
    Scene(
        "three adds of which the one that was taken back is cancelled when they are adopted",
        (Change("add", "-1"), Change("add", "-2"), Change("add", "-3", ends="cancelled", took_back=True)),
        adopted=Rest.CANCEL,
        way=ONCE_READ,
    ),
    Scene(
        "three deletes that are adopted, of which two were made",
        (Change("delete", "-1"), Change("delete", "-2", by_id=True), Change("delete", "-3", took_back=True)),
        standing=("-1", "-2", "-3"),
        adopted=Rest.RELEASE,
        way=ONCE_READ,
    ),
    Scene(
        "a code deleted and added again, of which the delete was made, adopted",
        (Change("delete"), Change("add", took_back=True)),
        standing=("",),
        adopted=Rest.RELEASE,
        way=ONCE_READ,
    ),
    Scene(
        "a code extended, of which both halves were made, adopted",
        (Change("delete", by_id=True), Change("add", follows=True)),
        standing=("",),
        adopted=Rest.RELEASE,
        way=ONCE_READ,
    ),
    Scene(
        "a code added and deleted, of which both were made, adopted",
        (Change("add", was_tried=True), Change("delete")),
        adopted=Rest.RELEASE,
        way=ONCE_READ,
    ),
)
