"""Faults on request: which call goes wrong, and how. The script goes first, then chance.

Scripted: `faults.script(Operation.ADD_CODES, Close(processed=True), times=2)`.
By chance: `faults.by_chance({Status(500): 0.01, Slow(2.0): 0.05}, seed=7)`.
"""

import random
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from sync.demo.simulator.answers import JSON
from sync.demo.simulator.entities import Operation
from sync.demo.simulator.throttle import RetryAfter


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong with a call; `processed`: the call is carried out all the same."""

    operations: ClassVar[frozenset[Operation]] = frozenset(Operation)

    processed: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Processed(Fault):
    """A fault that leaves what the call does alone, unless told otherwise, and spoils the answer."""

    processed: bool = field(default=True, kw_only=True)


@dataclass(frozen=True, slots=True)
class Status(Fault):
    """An error status. Without a word about `html`, 502 to 504 bring a proxy's page and the others the API's JSON.

    `named`: False leaves out the `Request-Id`, as something does that answers before the API was reached.
    """

    code: int
    message: str = "Simulated fault"
    html: bool | None = None
    named: bool = True
    retry_after: RetryAfter | None = None

    @property
    def is_html(self) -> bool:
        """Whether the body is a page."""
        return self.code in {502, 503, 504} if self.html is None else self.html


@dataclass(frozen=True, slots=True)
class Close(Fault):
    """The connection is closed without an answer, before the call is carried out or after."""


@dataclass(frozen=True, slots=True)
class Hang(Fault):
    """No answer ever; the connection stays open until the client gives up."""


@dataclass(frozen=True, slots=True)
class HtmlPage(Fault):
    """A page of HTML with status 200: a captive portal or a misled proxy answers in the API's place."""


@dataclass(frozen=True, slots=True)
class Slow(Processed):
    """A late answer. With `late_effect` the call too is carried out late, even if the client has given up by then."""

    delay_s: float
    late_effect: bool = False


@dataclass(frozen=True, slots=True)
class Drip(Processed):
    """The body comes byte by byte, with a pause before each."""

    pause_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Endless(Processed):
    """Blanks follow the answer's body, if it has one, until the client hangs up; no header tells how long it is."""


@dataclass(frozen=True, slots=True)
class MalformedJson(Processed):
    """The body arrives whole and is not JSON."""


@dataclass(frozen=True, slots=True)
class TruncatedBody(Processed):
    """The connection breaks in the middle of the body."""


@dataclass(frozen=True, slots=True)
class RawBody(Processed):
    """These bytes in place of the answer's body."""

    body: bytes
    status: int = 200
    content_type: str = JSON


@dataclass(frozen=True, slots=True)
class PartialAdd(Processed):
    """The first items of an add are stored, then the server fails with 500."""

    operations = frozenset({Operation.ADD_CODES})

    stored: int = 1


@dataclass(frozen=True, slots=True)
class PartialAnswer(Processed):
    """All items of an add are stored, and the answer lists the first of them alone."""

    operations = frozenset({Operation.ADD_CODES})

    listed: int = 1


@dataclass(frozen=True, slots=True)
class HiddenWrite(Processed):
    """The write succeeds, but readers find its effect only after so many seconds of the world's clock."""

    operations = frozenset({Operation.ADD_CODES, Operation.DELETE_CODES})

    hide_for_s: float


BAD_DAY: Mapping[Fault, float] = {
    Status(408, "Transaction has timed out"): 0.005,
    Status(409, "Data changed meanwhile"): 0.005,
    Status(500, "Internal server error"): 0.01,
    Status(503): 0.01,
    Close(): 0.005,
    Close(processed=True): 0.005,
    TruncatedBody(): 0.005,
    Slow(1.0): 0.02,
    HiddenWrite(3.0): 0.05,
}
"""A bad day at the API: the probability of each fault, for any call that it can happen to."""


@dataclass(frozen=True, slots=True)
class _Chance:
    rng: random.Random
    probabilities: Mapping[Fault, float]
    operations: Collection[Operation]

    def draw(self, operation: Operation) -> Fault | None:
        left = self.rng.random()
        for fault, probability in self.probabilities.items():
            if operation in fault.operations:
                left -= probability
                if left < 0:
                    return fault
        return None


class Faults:
    """What is going to go wrong."""

    def __init__(self) -> None:
        self._scripts: dict[Operation | None, deque[Fault | None]] = {}
        self._chances: list[_Chance] = []

    def script(self, operation: Operation | None, *faults: Fault | None, times: int = 1) -> None:
        """The next calls of the operation (None: of any) get these faults in turn, the whole series `times` times.

        None among the faults lets a call through.
        """
        for fault in faults:
            if fault is not None and not fault.operations.issuperset(Operation if operation is None else {operation}):
                raise ValueError(f"{type(fault).__name__} cannot happen to {operation or 'every operation'}")
        self._scripts.setdefault(operation, deque()).extend(faults * times)

    def by_chance(
        self, probabilities: Mapping[Fault, float], *, seed: int, operations: Collection[Operation] = tuple(Operation)
    ) -> None:
        """From now on, calls of these operations that no script claims get each fault with its probability."""
        if sum(probabilities.values()) > 1:
            raise ValueError("the probabilities of all faults together are above 1")
        self._chances.append(_Chance(random.Random(seed), probabilities, operations))

    def stop(self) -> None:
        """Nothing goes wrong any more."""
        self._scripts.clear()
        self._chances.clear()

    def draw(self, operation: Operation) -> Fault | None:
        """What goes wrong with this call."""
        for script in (self._scripts.get(operation), self._scripts.get(None)):
            if script:
                return script.popleft()
        faults = (chance.draw(operation) for chance in self._chances if operation in chance.operations)
        return next((fault for fault in faults if fault is not None), None)
