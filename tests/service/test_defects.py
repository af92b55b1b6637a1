"""A fault of ours is told in full where the log is, in one sentence elsewhere, and ends nothing but its job."""

import pytest
import structlog.testing

from sync.core.errors import DatabaseError, InternalError, VoucherSyncError
from sync.service.defects import outlived


def test_what_nobody_foresaw_is_logged_once_with_where_it_was_and_work_goes_on() -> None:
    with structlog.testing.capture_logs() as logs, outlived("pull", connection="lake") as ending:
        raise KeyError("a-code")
    assert isinstance(ending.error, InternalError)
    (line,) = logs
    assert (line["event"], line["log_level"], line["job"], line["connection"]) == ("defect", "error", "pull", "lake")
    assert line["exc_info"]
    assert line["error"] == str(ending.error)
    assert "a-code" not in line["error"]


def test_what_somebody_else_handles_is_raised_on_and_not_called_a_fault_of_ours() -> None:
    with (
        structlog.testing.capture_logs() as logs,
        pytest.raises(DatabaseError),
        outlived("pull", but=(VoucherSyncError,)),
    ):
        raise DatabaseError("away")
    assert logs == []


def test_a_block_that_ends_well_has_no_defect() -> None:
    with structlog.testing.capture_logs() as logs, outlived("pull") as ending:
        pass
    assert (ending.error, logs) == (None, [])


def test_a_cancellation_is_no_defect() -> None:
    with structlog.testing.capture_logs() as logs, pytest.raises(KeyboardInterrupt), outlived("pull"):
        raise KeyboardInterrupt
    assert logs == []
