"""Prometheus with the rules of deploy/, whose times pass faster, over a real daemon."""

import asyncio
import re
import shutil
import socket
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from ruamel.yaml import YAML

DEPLOYED = Path(__file__).parents[2] / "deploy" / "prometheus"
CONFIG_FILE, RULES_FILE = DEPLOYED / "prometheus.yml", DEPLOYED / "voucher-sync.rules.yml"
PROGRAM = shutil.which("prometheus")
needs_prometheus = pytest.mark.skipif(PROGRAM is None, reason="prometheus is not installed: .ci/run installs it")
PATIENCE_S = 100
"""How long a test waits for an alert that should come, or go, within seconds."""
SCRAPE = "250ms"
SCRAPED = "Scraped"
"""An alert that fires as soon as anything was read."""
UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
DURATION = re.compile(r"\b(\d+)([smhd])\b")
AGE = re.compile(r"(?<=> )\d{3,}\b")
"""A bound of so many digits is of seconds; the others count something else."""


def rules() -> list[dict[str, Any]]:
    """The rules as they are deployed."""
    return [rule for group in YAML(typ="safe").load(RULES_FILE)["groups"] for rule in group["rules"]]


def hastened(rule: dict[str, Any], faster: int) -> dict[str, Any]:
    """A rule that waits, looks back, and bears ages, for so much less."""

    def shorter(found: re.Match[str]) -> str:
        return f"{max(int(found[1]) * UNITS_MS[found[2]] // faster, 1)}ms"

    expr = AGE.sub(lambda found: f"{int(found[0]) / faster:g}", DURATION.sub(shorter, rule["expr"]))
    wait = {"for": DURATION.sub(shorter, rule["for"])} if "for" in rule else {}
    return {**rule, "expr": expr, **wait}


class Prometheus:
    """A running one, and the Alertmanager that it tells of alerts."""

    def __init__(self) -> None:
        self._firing = dict[frozenset[tuple[str, str]], str]()
        self._told = asyncio.Condition()

    @property
    def firing(self) -> set[str]:
        """The names of the alerts that fire, as far as it has told."""
        return set(self._firing.values())

    async def until_firing(self, *names: str) -> None:
        """Waits until all of these fire."""
        await self._until(lambda: self.firing >= set(names), f"{names} to fire")

    async def until_over(self, *names: str) -> None:
        """Waits until none of these fires."""
        await self._until(lambda: not self.firing & set(names), f"{names} to be over")

    async def receive(self, request: web.Request) -> web.Response:
        """Takes what it tells: each alert with the end that it has, or will have if nothing more is told."""
        for alert in await request.json():
            labels = frozenset(alert["labels"].items())
            if datetime.fromisoformat(alert["endsAt"]) > datetime.now(UTC):
                self._firing[labels] = alert["labels"]["alertname"]
            else:
                self._firing.pop(labels, None)
        async with self._told:
            self._told.notify_all()
        return web.json_response({})

    async def _until(self, is_so: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S), self._told:
                await self._told.wait_for(is_so)
        except TimeoutError:
            raise AssertionError(f"waited in vain for {what}; firing: {sorted(self.firing)}") from None


@asynccontextmanager
async def watching(directory: Path, target: str, token: str, *names: str, faster: int) -> AsyncIterator[Prometheus]:
    """Prometheus that scrapes the daemon at `target`, with these of the rules, whose time passes `faster`."""
    chosen = [hastened(rule, faster) for rule in rules() if rule["alert"] in names]
    assert len(chosen) == len(names)
    prometheus = Prometheus()
    async with _alertmanager(prometheus) as port:
        _configure(directory, target, token, port, [*chosen, {"alert": SCRAPED, "expr": "voucher_sync_build_info"}])
        process = await _start(directory)
        try:
            await prometheus.until_firing(SCRAPED)
            yield prometheus
        finally:
            process.kill()
            await process.wait()


@asynccontextmanager
async def _alertmanager(prometheus: Prometheus) -> AsyncIterator[int]:
    app = web.Application()
    app.add_routes([web.post("/api/v2/alerts", prometheus.receive)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _configure(directory: Path, target: str, token: str, alertmanager: int, chosen: list[dict[str, Any]]) -> None:
    config = YAML(typ="safe").load(CONFIG_FILE)
    (job,) = config["scrape_configs"]
    (directory / "token").write_text(token)
    config["global"] = {"scrape_interval": SCRAPE, "scrape_timeout": SCRAPE, "evaluation_interval": SCRAPE}
    config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]}
    job["authorization"]["credentials_file"] = str(directory / "token")
    job["static_configs"] = [{"targets": [target]}]
    yaml = YAML(typ="safe")
    yaml.dump(config, directory / "prometheus.yml")
    yaml.dump({"groups": [{"name": "hastened", "rules": chosen}]}, directory / config["rule_files"][0])


async def _start(directory: Path) -> Process:
    assert PROGRAM is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return await asyncio.create_subprocess_exec(
        PROGRAM, f"--config.file={directory / 'prometheus.yml'}", f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
        cwd=directory, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL,
    )  # fmt: skip
