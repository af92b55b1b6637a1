"""What a long run is run for: its figures, at the end. A simulation passes only without any difference."""

from collections import Counter

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what happened in all simulations that ended well, together."""
    total, seeds = Counter[str](), list[int]()
    for report in terminalreporter.getreports("passed"):
        for name, simulated in report.user_properties:
            if name == "simulated" and isinstance(simulated, dict):
                total.update(simulated["total"])
                seeds += simulated["seeds"]
    if seeds:
        terminalreporter.section("simulated")
        terminalreporter.write_line(", ".join(f"{total[name]:,} {name}" for name in sorted(total)))
        failed = len(terminalreporter.getreports("failed"))
        ended = f"{failed} WORKERS FOUND A FAULT" if failed else "0 differences, 0 changes doubled or lost"
        terminalreporter.write_line(f"{ended}; seeds {sorted(seeds)}")
