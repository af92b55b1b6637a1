"""Charts of the figures as SVG, by matplotlib of the peers' environment: `chart.py RESULTS.json DIRECTORY`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

NAMES = {
    "ours": "voucher-sync",
    "dlt-arrow": "dlt, Arrow tables",
    "script": "one-hour script",
    "dlt-merge": "dlt, merge",
    "singer": "Singer",
    "read": "floor: read all",
    "copy": "floor: COPY alone",
}
OURS, PEER, FLOOR, INK = "#1f6f8b", "#b9c3c9", "#e3e7e9", "#1d2b33"
BACKGROUND = "#ffffff"
Records = list[dict[str, Any]]


def main(figures: Path, directory: Path) -> None:
    """Draw what there are figures for."""
    mpl.rcParams.update({
        "svg.fonttype": "path", "svg.hashsalt": "bench", "font.size": 10, "text.color": INK, "axes.labelcolor": INK,
        "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": "#9aa7ae", "figure.facecolor": BACKGROUND,
    })  # fmt: skip
    records: Records = [one for one in json.loads(figures.read_text(encoding="utf-8"))["records"] if "error" not in one]
    works = [one["work"] for one in records if one["work"] in {"1m", "200k", "20k"}]
    if works:
        work = next(name for name in ("1m", "200k", "20k") if name in works)
        _save(_bars([one for one in records if one["work"] == work and one["step"] == "backfill"], work), directory,
              "how-fast")  # fmt: skip
    if growth := [one for one in records if one["work"] == "growth"]:
        _save(_lines(growth), directory, "growth")


def _save(figure: Any, directory: Path, name: str) -> None:
    figure.savefig(directory / f"{name}.svg", metadata={"Date": None}, bbox_inches="tight", pad_inches=0.15)
    plt.close(figure)


def _bars(records: Records, work: str) -> Any:
    found = {name: [one for one in records if one["contender"] == name] for name in NAMES}
    found = {name: of for name, of in found.items() if of}
    order = sorted(found, key=lambda name: _median(found[name], _wall))
    figure, (wall, cpu) = plt.subplots(1, 2, figsize=(9.5, 0.42 * len(order) + 1.2), sharey=True)
    places = range(len(order))
    colours = [{"ours": OURS, "read": FLOOR, "copy": FLOOR}.get(name, PEER) for name in order]
    walls = [_median(found[name], _wall) for name in order]
    spread = [
        [walls[at] - min(map(_wall, found[name])) for at, name in enumerate(order)],
        [max(map(_wall, found[name])) - walls[at] for at, name in enumerate(order)],
    ]
    wall.barh(places, walls, color=colours, xerr=spread, error_kw={"ecolor": INK, "elinewidth": 0.9, "capsize": 2})
    clients, servers = ([_median(found[name], part) for name in order] for part in (_client, _server))
    cpu.barh(places, clients, color=colours, label="client")
    cpu.barh(places, servers, left=clients, color=colours, hatch="////", edgecolor=BACKGROUND, linewidth=0)
    wall.set_yticks(list(places), [_label(name, found[name]) for name in order])
    wall.invert_yaxis()
    size = {"1m": "1,000,000", "200k": "200,000", "20k": "20,000"}[work]
    wall.set_title(f"{size} codes into an empty mirror: seconds", loc="left", fontsize=10)
    cpu.set_title("processor seconds: client, and hatched the database", loc="left", fontsize=10)
    for axes, values in ((wall, [a + b for a, b in zip(walls, spread[1], strict=True)]),
                         (cpu, [a + b for a, b in zip(clients, servers, strict=True)])):  # fmt: skip
        shown = walls if axes is wall else values
        for at, value in enumerate(values):
            axes.annotate(f"{shown[at]:.1f}", (value, at), (4, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set_xlim(0, max(values) * 1.15)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    figure.tight_layout()
    return figure


def _label(name: str, found: Records) -> str:
    is_wrong = any(one["mirror"] not in {"equal", ""} for one in found)
    return NAMES[name] + (" (wrong)" if is_wrong else "")


def _lines(records: Records) -> Any:
    figure, (cpu, memory) = plt.subplots(1, 2, figsize=(9.5, 3.2))
    steps = [step for step in dict.fromkeys(one["step"] for one in records) if step != "backfill"]
    sizes = sorted({one["size"] for one in records})
    for step, colour in zip(steps, (OURS, "#c4622d", "#5b8c3e", "#7a5fa3"), strict=True):
        cpu.plot(sizes, [_at(records, step, size, _both_ms) for size in sizes], "o-", color=colour, label=step)
    memory.plot(sizes, [_at(records, "backfill", size, _peak) for size in sizes], "o-", color=OURS, label="backfill")
    of_pull = [_at(records, "nothing new", size, _peak) for size in sizes]
    memory.plot(sizes, of_pull, "o-", color="#c4622d", label="pull with nothing new")
    cpu.set_title("processor time of client and database, ms", loc="left", fontsize=10)
    memory.set_title("peak memory, MB", loc="left", fontsize=10)
    for axes in (cpu, memory):
        axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes], minor=False)
        axes.minorticks_off()
        axes.set_ylim(0, axes.get_ylim()[1] * 1.3)
        axes.set_xlabel("codes in the mirror")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9, ncols=2, loc="upper left")
    figure.tight_layout()
    return figure


def _at(records: Records, step: str, size: int, value: Callable[[dict[str, Any]], float]) -> float:
    found = [one for one in records if one["step"] == step and one["size"] == size]
    return _median(found, value) if found else float("nan")


def _median(found: Records, value: Callable[[dict[str, Any]], float]) -> float:
    return median(map(value, found))


def _wall(one: dict[str, Any]) -> float:
    return float(one["wall_s"])


def _client(one: dict[str, Any]) -> float:
    return float(one["cpu_s"])


def _server(one: dict[str, Any]) -> float:
    return float(one["db_cpu_s"])


def _both_ms(one: dict[str, Any]) -> float:
    return (_client(one) + _server(one)) * 1000


def _peak(one: dict[str, Any]) -> float:
    return float(one["rss_mb"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
