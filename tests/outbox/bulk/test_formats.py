"""What an editor, a browser or a program saves that was not told to save text is no list of codes."""

from uuid import uuid4

import pytest

from sync.core.errors import VoucherSyncError
from sync.outbox.bulk.files import BadLine, CodeLine, Layout, read_layout, read_lines

FORMATS = {
    "{\\rtf1\\ansi SECRET": "RTF",
    "%PDF-1.7": "PDF",
    "<!DOCTYPE html><title>SECRET, B</title>": "HTML or XML",
    "<?xml version='1.0'?>": "HTML or XML",
    '["SECRET", "B"]': "JSON",
    "[": "JSON",
    '{"value": "SECRET"}': "JSON",
}


@pytest.mark.parametrize(("first", "name"), FORMATS.items())
def test_another_format_is_named(first: str, name: str) -> None:
    with pytest.raises(VoucherSyncError, match=f"begins as {name} does: save it as CSV") as raised:
        read_layout(first)
    assert "SECRET" not in str(raised.value)


@pytest.mark.parametrize("first", ["<3-FOREVER", "{SUMMER}", "[A]", "100%PDF"])
def test_a_code_that_begins_alike_is_a_code(first: str) -> None:
    assert not read_layout(first).has_header


@pytest.mark.parametrize("rule", ["---", "=====", "***", "~~~", "..."])
def test_what_divides_a_text_is_no_code_unless_somebody_says_so(rule: str) -> None:
    (bad,) = read_lines([(3, rule)], Layout(("value",)), uuid4())
    assert isinstance(bad, BadLine)
    assert "--as-is" in bad.reason
    (code,) = read_lines([(3, rule)], Layout(("value",)), uuid4(), as_is=True)
    assert isinstance(code, CodeLine)


@pytest.mark.parametrize("value", ["--", "-A-", "$ cat x", "#", "777", "XXXX", "-=-"])
def test_what_may_be_a_code_is_one(value: str) -> None:
    (code,) = read_lines([(1, value)], Layout(("value",)), uuid4())
    assert isinstance(code, CodeLine)
