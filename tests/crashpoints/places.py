"""What goes wrong, and where."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from sync.demo.simulator import Close, Fault, Operation
from tests.crashpoints.scenes import Scene


class Event(Enum):
    """What goes wrong at a place: the first three at a point, then two at a call and two at a statement or commit."""

    DEATH = "the process dies"
    DEATH_AND_LOSS = "it dies, and its last commit is lost"
    DEATH_AND_LOSSES = "it dies, and commits before its last are lost too"
    CALL_LOST = "a call is lost on its way to the API"
    ANSWER_LOST = "the answer to a call is lost"
    STATEMENT_LOST = "a statement or commit is lost on its way to the database"
    RESULT_LOST = "the answer to a statement or commit is lost"


@dataclass(frozen=True, slots=True)
class Losses:
    """Death at a point, and the loss of so many commits before the last one."""

    point: int
    before_last: int


@dataclass(frozen=True, slots=True)
class Places:
    """Where something can go wrong in a scene: the points of its way by name, and the calls and statements of its run.

    The first so many calls and statements were before its way. `commits`: to which point the run had come before each
    commit that changed something, below 0 before its way.
    """

    points: tuple[str, ...]
    calls: tuple[Operation, ...]
    calls_before: int
    statements: int
    statements_before: int
    commits: tuple[int, ...]

    @property
    def written_from(self) -> int:
        """Before this point nothing was written that a database could lose."""
        return max(0, self.commits[0])

    @property
    def losses(self) -> list[Losses]:
        """Death at each commit and in the end, with each number of commits lost that were made before.

        Between two commits and calls a point is as good as the other: the same is done, and the same can be lost.
        """
        deaths = [*((point - 1, number) for number, point in enumerate(self.commits) if point > 0)]
        deaths.append((len(self.points) - 1, len(self.commits)))
        return [Losses(point, more) for point, committed in deaths for more in range(1, committed)]

    def combinations(self) -> Iterator[tuple[Event, int]]:
        """Everything that can go wrong on the way, each with the number of its place from 0 on."""
        for event, places in (
            (Event.DEATH, range(len(self.points))),
            (Event.DEATH_AND_LOSS, range(self.written_from + 1, len(self.points))),
            (Event.DEATH_AND_LOSSES, range(len(self.losses))),
            (Event.CALL_LOST, range(self.calls_before, len(self.calls))),
            (Event.ANSWER_LOST, range(self.calls_before, len(self.calls))),
            (Event.STATEMENT_LOST, range(self.statements_before, self.statements)),
            (Event.RESULT_LOST, range(self.statements_before, self.statements)),
        ):
            yield from ((event, place) for place in places)

    def name(self, event: Event, place: int) -> str:
        """What goes wrong where, in words that find it again."""
        match event:
            case Event.DEATH | Event.DEATH_AND_LOSS:
                where = self.points[place]
            case Event.DEATH_AND_LOSSES:
                losses = self.losses[place]
                where = f"{losses.before_last} more: {self.points[losses.point]}"
            case Event.CALL_LOST | Event.ANSWER_LOST:
                where = f"call {place + 1}, {self.calls[place]}"
            case _:
                where = f"statement {place + 1} of {self.statements}"
        return f"{event.value}: {where}"

    def faults(self, scene: Scene, event: Event, place: int) -> dict[Operation, list[Fault | None]]:
        """What the API does with the first calls of each operation."""
        faults: dict[Operation, list[Fault | None]] = {name: [fault] for name, fault in scene.faults.items()}
        if event in (Event.CALL_LOST, Event.ANSWER_LOST):
            operation = self.calls[place]
            before = self.calls[:place].count(operation)
            others = [*faults.get(operation, []), *[None] * before][:before]
            faults[operation] = [*others, Close(processed=event is Event.ANSWER_LOST)]
        return faults
