"""A fault of ours is told with its place and whom to send it to, and without what a foreign error quotes."""

import pytest

from sync.core.api_errors import InvalidRequest
from sync.core.errors import DatabaseError
from sync.core.internal_errors import WHAT_TO_SEND, internal_error, told
from sync.core.retry import Backoff


def caught(error: Exception, cause: BaseException | None = None) -> Exception:
    """The error, as it is after it was raised."""
    try:
        raise error from cause
    except type(error) as raised:
        return raised


def test_a_defect_names_its_kind_its_place_and_what_to_send() -> None:
    words = str(internal_error("pull", caught(KeyError("hush"))))
    assert words.startswith("pull ended with KeyError in test_internal_errors.py:")
    assert "fault of ours (voucher-sync " in words
    assert words.endswith(WHAT_TO_SEND)
    assert "hush" not in words


def test_what_the_operating_system_refuses_is_no_fault_of_ours() -> None:
    words = str(internal_error("pull", caught(ExceptionGroup("hush", [caught(OSError(24, "Too many open files"))]))))
    assert words.startswith("pull: the operating system refused: Too many open files;")
    assert "fault of ours" not in words


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread")])
def test_where_no_memory_is_left_it_is_no_fault_of_ours(error: Exception) -> None:
    words = str(internal_error("pull", caught(error)))
    assert words.startswith("pull: no memory, or no thread, is left for this process; see what this host lets it have")


def test_a_defect_is_told_with_no_descriptor_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("io.open", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    assert "KeyError" in str(internal_error("pull", caught(KeyError())))


def test_its_place_is_the_last_of_our_own() -> None:
    with pytest.raises(TypeError) as raised:
        Backoff(base_s="hush", cap_s=1.0).pause_s(1, None)  # type: ignore[arg-type]  # what it fails for
    assert "TypeError in sync/core/retry.py:" in str(internal_error("pull", raised.value))


def test_of_a_group_the_first_is_told() -> None:
    group = caught(ExceptionGroup("hush", [caught(ExceptionGroup("hush", [caught(ValueError("hush"))]))]))
    assert str(internal_error("push", group)).startswith("push ended with ValueError in test_internal_errors.py:")


def test_an_error_that_was_never_raised_has_no_place() -> None:
    assert "KeyError in an unknown place" in str(internal_error("pull", KeyError()))


def test_a_traceback_has_none_of_the_api_s_words() -> None:
    refused = InvalidRequest("voucherCodes/add", "Value SUMMER26 is taken", status=400)
    text = told(caught(KeyError("hush"), caught(refused)))
    assert "InvalidRequest: voucherCodes/add: " in text
    assert "SUMMER26" not in text


def test_a_traceback_has_no_text_of_a_foreign_error() -> None:
    inner = caught(ExceptionGroup("hush", [caught(ValueError("hush"))]))
    text = told(caught(DatabaseError("in our own words"), caught(KeyError("hush"), inner)))
    assert text.index("ValueError") < text.index("KeyError") < text.index("DatabaseError: in our own words")
    assert text.count("Traceback (most recent call last)") == 4
    assert "test_internal_errors.py" in text
    assert "hush" not in text


def test_the_traceback_of_an_error_that_was_raised_out_of_its_own_group_has_an_end() -> None:
    group = ExceptionGroup("hush", [caught(KeyError("hush"))])
    text = told(caught(group.exceptions[0], group))
    assert text.endswith("KeyError")
    assert text.count("from which came:") == 1
    assert "hush" not in text
