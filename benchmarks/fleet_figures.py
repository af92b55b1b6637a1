"""Lines of the fleet's table: what is measured, its goal, and whether that is met."""

from dataclasses import dataclass
from statistics import quantiles


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of the table; `is_met`: whether the goal is."""

    name: str
    goal: str
    measured: str
    is_met: bool


def percentiles(seconds: list[float]) -> tuple[float, float, float]:
    """Of half of them, of 99 of 100, and of all."""
    cuts = quantiles(seconds, n=100, method="inclusive")
    return cuts[49], cuts[98], max(seconds)


def spread(seconds: list[float]) -> str:
    """The same in words."""
    p50_s, p99_s, most_s = percentiles(seconds)
    return f"p50 {p50_s:.1f} s, p99 {p99_s:.1f} s, max {most_s:.1f} s"


def times(name: str, goal: float, before_s: list[float], after_s: list[float]) -> Figure:
    """How many times as long 99 of 100 take as before."""
    before, after = percentiles(before_s), percentiles(after_s)
    ratio = after[1] / before[1]
    steps = (
        f"{what} {was:.3f} -> {now:.3f} s" for what, was, now in zip(("p50", "p99", "max"), before, after, strict=True)
    )
    return Figure(name, f"<= {goal:g} times", f"{ratio:.2f} times; {', '.join(steps)}", ratio <= goal)
