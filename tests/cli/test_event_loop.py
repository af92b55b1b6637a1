"""What is waited for in a thread, as a name server that is silent, keeps neither other work nor the end waiting."""

import asyncio
import gc
import signal
import socket
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Semaphore
from typing import Any

import pytest

from sync.cli import check, event_loop
from tests.support.daemon import PATIENCE_S, running
from tests.support.mirror import Mirror
from tests.support.process import end, start
from tests.support.proxy import Proxy

NOWHERE = "https://api.mews.example"
SILENT = """
import socket
import sys
import threading

known = socket.getaddrinfo

def look_up(host, *others, **more):
    if host in ("api.mews.example", b"api.mews.example"):
        sys.stderr.write('{"event": "looking_up"}\\n')
        sys.stderr.flush()
        threading.Event().wait()
    return known(host, *others, **more)

socket.getaddrinfo = look_up
"""
"""What makes name servers silent for a process that has it in its path."""


class Names:
    """In the place of the system's: `asked` has a place for each look-up, none of which ends before `answer` is set."""

    def __init__(self) -> None:
        self.asked = Semaphore(0)
        self.answer = Event()

    def look_up(self, host: str, port: int, *_: Any) -> list[Any]:
        """As `socket.getaddrinfo`."""
        self.asked.release()
        self.answer.wait()
        if host != "known.example":
            raise socket.gaierror(socket.EAI_NONAME, "nobody knows it")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Names of nobody's, as long as the test goes on."""
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names.look_up)
    return names


def test_names_that_are_looked_up_for_long_leave_threads_for_all_else(names: Names) -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        asked = [loop.create_task(loop.getaddrinfo(f"hotel-{number}.example", 443)) for number in range(60)]
        for _ in asked:
            await event_loop.in_thread(names.asked.acquire)
        return await asyncio.to_thread(lambda: "done")

    assert event_loop.run(main()) == "done"
    names.answer.set()


def test_a_name_is_looked_up_once_for_all_who_wait_for_it_and_again_once_that_takes_long(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> tuple[list[Any], BaseException | None]:
        loop = asyncio.get_running_loop()
        first, *others = [loop.create_task(loop.getaddrinfo("known.example", 443)) for _ in range(20)]
        unknown = loop.create_task(loop.getaddrinfo("unknown.example", 443))
        for _ in ("known", "unknown"):
            await event_loop.in_thread(names.asked.acquire)
        assert names.asked.acquire(blocking=False) is False
        first.cancel()  # and nobody else with it
        monkeypatch.setattr(event_loop, "AGAIN_AFTER_S", 0.0)
        others.append(loop.create_task(loop.getaddrinfo("known.example", 443)))
        await event_loop.in_thread(names.asked.acquire)
        names.answer.set()
        found = await asyncio.gather(*others)
        await asyncio.wait([unknown])
        return found, unknown.exception()

    found, error = event_loop.run(main())
    assert {one[0][4] for one in found} == {("192.0.2.1", 443)}
    assert isinstance(error, socket.gaierror)


def test_what_a_thread_raises_is_raised_where_it_is_waited_for() -> None:
    async def main() -> None:
        await asyncio.to_thread(int, "none")

    with pytest.raises(ValueError, match="none"):
        event_loop.run(main())


def test_the_rows_of_a_batch_are_not_gone_through_for_garbage() -> None:
    def looks() -> int:
        return int(gc.get_stats()[0]["collections"])

    async def make_rows() -> int:
        before = looks()
        rows = [{"values": [number]} for number in range(1000)]
        assert len(rows) == 1000
        return looks() - before

    of_python = gc.get_threshold()
    gc.collect()
    try:
        assert event_loop.run(make_rows()) == 0
    finally:
        gc.set_threshold(*of_python)


async def test_a_name_server_that_is_silent_holds_up_no_stop(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "path").mkdir()
    (tmp_path / "path/sitecustomize.py").write_text(SILENT)
    silent = {"PYTHONPATH": str(tmp_path / "path"), "MEWS_PLATFORM_ADDRESS": NOWHERE}
    async with running(mirror, tmp_path, **silent) as daemon:
        await daemon.event("looking_up")
        assert await daemon.stopped(signal.SIGTERM) == 0
        assert daemon.logs[-1]["event"] == "stopped"


async def test_a_check_of_a_database_that_falls_silent_ends_with_ctrl_c(mirror: Mirror, tmp_path: Path) -> None:
    async with Proxy(mirror.database_url).served() as proxy:
        proxy.silence_after(b"pg_stat_activity")
        settings = mirror.environment | {"DATABASE_URL": proxy.url, "MEWS_PLATFORM_ADDRESS": NOWHERE}
        process = await start("check", settings=settings, directory=tmp_path)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await proxy.swallowed.wait()
                process.send_signal(signal.SIGINT)
                ended = await end(process)
        finally:
            if process.returncode is None:
                process.kill()
    assert ended.code == 130
    assert "Traceback" not in ended.stderr


async def test_a_check_gives_a_database_up_that_has_fallen_silent(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "ANSWERS_WITHIN_S", 2.0)
    async with Proxy(mirror.database_url).served() as proxy:
        proxy.silence_after(b"pg_stat_activity")
        settings = mirror.settings(database_url=proxy.url, mews_platform_address=NOWHERE)
        with ExitStack() as open_until_the_end:
            found = await check._check_database(settings, open_until_the_end)
    assert found.migrated_url is None
    assert [one.detail for one in found.findings] == ["the database does not answer: no end within 2 s"]
