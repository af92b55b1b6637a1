"""Logs that nobody reads: the work goes on, what is lost of them is counted, and the end comes as it would."""

import asyncio
import fcntl
import json
import logging
import os
import pty
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import structlog

from sync import logs
from sync.cli.log_lines import LineWriter
from sync.demo.simulator import Operation
from tests.support.mirror import Mirror
from tests.support.process import environment

log = structlog.get_logger()

SMALLEST = 4096
"""Bytes of a pipe."""
CALLS = 30
"""More than a start makes."""


def small_pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, SMALLEST)
    return reader, writer


def fill(descriptor: int) -> None:
    os.set_blocking(descriptor, False)
    for size in (SMALLEST, 1):
        with suppress(BlockingIOError):
            while True:
                os.write(descriptor, b"x" * size)
    os.set_blocking(descriptor, True)


@contextmanager
def writer_to(descriptor: int, most_lines: int) -> Iterator[LineWriter]:
    root, writer = logging.getLogger(), LineWriter(descriptor, most_lines)
    handlers, level = root.handlers, root.level
    logs.configure("json", "info", writer)
    try:
        yield writer
    finally:
        root.handlers = handlers
        root.setLevel(level)
        structlog.reset_defaults()


def read_lines(reader: int) -> list[dict[str, Any]]:
    """What is there to be read; the last line is whole once its writer is through."""
    parts: list[bytes] = []
    os.set_blocking(reader, False)
    with suppress(BlockingIOError):
        while True:
            parts.append(os.read(reader, SMALLEST))
    return [json.loads(line) for line in b"".join(parts).splitlines()]


def test_a_descriptor_that_others_have_set_not_to_block_is_waited_for_all_the_same() -> None:
    reader, descriptor = small_pipe()
    fill(descriptor)
    os.set_blocking(descriptor, False)
    with writer_to(descriptor, most_lines=10) as writer:
        log.info("first")
        log.info("second")
        assert not writer.is_through()
        shown = b""
        while shown.count(b"\n") < 2:
            shown += os.read(reader, SMALLEST)
        assert [json.loads(line)["event"] for line in shown.lstrip(b"x").splitlines()] == ["first", "second"]


def test_what_nobody_reads_is_dropped_and_told_of_once_somebody_does() -> None:
    reader, descriptor = small_pipe()
    fill(descriptor)
    with writer_to(descriptor, most_lines=10) as writer:
        for number in range(100):
            log.info("told", number=number)
        assert not writer.is_through()
        os.set_blocking(reader, False)
        with suppress(BlockingIOError):
            while os.read(reader, SMALLEST).startswith(b"x"):
                pass
        while not writer.is_through():
            pass
        read_lines(reader)
        log.info("after")
        assert writer.is_through()
        lost, after = read_lines(reader)
    assert (lost["event"], lost["level"], after["event"]) == ("log_lines_lost", "warning", "after")
    assert lost["lines"] in (89, 90), "ten wait, and one may be under way"


def test_what_is_not_dropped_comes_whole_and_in_order() -> None:
    reader, descriptor = small_pipe()
    with writer_to(descriptor, most_lines=1000) as writer:
        for number in range(500):
            log.info("told", number=number)
        with os.fdopen(reader) as lines:
            assert [json.loads(lines.readline())["number"] for _ in range(500)] == list(range(500))
            assert writer.is_through()


def test_what_a_full_disk_does_not_take_is_told_of_once_it_has_room() -> None:
    reader, descriptor = small_pipe()
    disk = os.open("/dev/full", os.O_WRONLY)
    with writer_to(disk, most_lines=10) as writer:
        log.info("lost")
        assert writer.is_through()
        os.dup2(descriptor, disk)
        log.info("written")
        assert writer.is_through()
        lost, written = read_lines(reader)
    assert (lost["event"], lost["lines"], written["event"]) == ("log_lines_lost", 1, "written")


@pytest.mark.long
@pytest.mark.parametrize("opened", [small_pipe, pty.openpty], ids=["a pipe", "a terminal"])
async def test_a_daemon_whose_log_nobody_reads_works_on_and_stops(
    mirror: Mirror, tmp_path: Path, opened: Callable[[], tuple[int, int]]
) -> None:
    reader, writer = opened()
    fill(writer)
    quick = {"SYNC_PULL_INTERVAL_S": "0.1", "SYNC_LOG_LEVEL": "debug"}
    is_called_enough = asyncio.Event()

    async def count(_operation: Operation, _body: Any) -> None:
        if len(mirror.requests()) > CALLS:
            is_called_enough.set()

    mirror.simulator.on_request = count
    async with mirror.opened():
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sync", "run", env=environment(mirror.environment | quick), cwd=tmp_path,
            stdin=asyncio.subprocess.DEVNULL, stdout=writer, stderr=writer,
        )  # fmt: skip
        os.close(writer)
        try:
            async with asyncio.timeout(60):
                await is_called_enough.wait()
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
        os.close(reader)
