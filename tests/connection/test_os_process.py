"""Which processes are known to have ended: those of this machine that have, and no other's."""

import os
import subprocess
from dataclasses import replace

import pytest

from sync.connection.os_process import OsProcess


def test_this_one_lives_and_is_told_as_it_is() -> None:
    here = OsProcess.current()
    assert not here.is_gone()
    assert OsProcess.parse(str(here)) == here


@pytest.mark.skipif(not OsProcess.current().space, reason="only Linux tells it")
def test_one_that_ended_is_gone_and_so_is_one_whose_number_is_anothers_now() -> None:
    here = OsProcess.current()
    with subprocess.Popen(["/bin/true"]) as ended:
        ended.wait()
        assert replace(here, pid=ended.pid).is_gone()
    assert replace(here, started="1").is_gone()


def test_of_another_machine_nothing_is_known() -> None:
    ended = replace(OsProcess.current(), pid=2**22, started="1")
    assert not replace(ended, space="elsewhere").is_gone()
    assert not replace(ended, space="").is_gone()


@pytest.mark.parametrize("words", ["", "a name alone", "a space pid x 1"])
def test_what_nobody_has_told_is_none(words: str) -> None:
    assert OsProcess.parse(words) is None


def test_of_what_tells_no_start_the_number_counts() -> None:
    here = OsProcess.current()
    assert not replace(here, pid=os.getpid(), started="").is_gone()
