"""What a signal does to what is under way: it is finished, for so long and no longer."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Sequence

from sync.logger import structlog
from sync.signals import Signal

STOPPED_AFTER_S = 9.5
"""After a signal; within 10 s the process must be gone."""
AT_ONCE_S = 0.5
"""After a second one."""
INTERRUPTED = 130
"""What a process ends with that was told so twice, however much of it was still to be closed."""

log = structlog.get_logger()


def stop_on(numbers: Sequence[signal.Signals], stop: Signal, on_first: Callable[[], None] = lambda: None) -> None:
    """Set `stop` at the first of these signals, and cancel the task that calls this at the second one. Whatever is
    waited for then, the process ends.

    A terminal that is closed ends it too, but never at once: its shell and the system say so one after the other.
    """
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()

    def on_signal(name: str) -> None:
        if not stop.is_set():
            log.info("stopping", signal=name)
            on_first()
            stop.set()
            loop.call_later(STOPPED_AFTER_S, _end_now, "still_stopping", STOPPED_AFTER_S)
            return
        log.warning("stopping_at_once", signal=name)
        loop.call_later(AT_ONCE_S, _end_now, "still_stopping", AT_ONCE_S, INTERRUPTED)
        # From here on the default handling is back: a third signal ends the process without more ado.
        for number in numbers:
            loop.remove_signal_handler(number)
        if main is not None:
            main.cancel()

    def on_hang_up() -> None:
        if not stop.is_set():
            on_signal(signal.SIGHUP.name)

    for number in numbers:
        loop.add_signal_handler(number, on_signal, number.name)
    if is_hang_up_heeded():
        loop.add_signal_handler(signal.SIGHUP, on_hang_up)


def is_hang_up_heeded() -> bool:
    """Whether the end of its terminal (SIGHUP) is to end this process; not where it was started to outlive that, as by
    `nohup`, which a handler would undo.
    """
    return signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN


def _end_now(event: str, after_s: float, code: int = 1) -> None:
    """End without closing anything, as where a database that fell silent is waited for. It is as safe as a kill -9."""
    log.warning(event, after_s=after_s)
    logging.shutdown()  # else its last lines may still wait to be written
    os._exit(code)
