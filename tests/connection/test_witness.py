"""The witness's file: what it says survives whatever breaks a process off."""

import json
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from sync.connection.witness import SIZE, Witness, state_directory
from sync.core.errors import SettingsError

ONE = UUID(int=1)


@pytest.fixture
def no_room() -> Iterator[None]:
    """As on a full disk: no file takes more than a few bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, before[1]))
    with capture_logs():
        yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def only_file(directory: Path) -> Path:
    (path,) = directory.glob("witness-*")
    return path


def test_it_is_written_over_in_place_whatever_the_length_of_the_position(tmp_path: Path) -> None:
    witness = Witness(tmp_path)
    witness.write(ONE, 7)
    first = only_file(tmp_path).stat()
    for position in (99_999, 2**62):
        witness.write(ONE, position)
        assert witness.read(ONE) == position
    assert (only_file(tmp_path).stat().st_ino, only_file(tmp_path).stat().st_size) == (first.st_ino, SIZE)


def test_what_another_process_of_the_place_has_seen_since_stays(tmp_path: Path) -> None:
    Witness(tmp_path).write(ONE, 8)
    Witness(tmp_path).write(ONE, 7)
    assert Witness(tmp_path).read(ONE) == 8


def test_processes_of_one_number_as_of_two_containers_may_begin_a_file_at_once(tmp_path: Path) -> None:
    begun = [UUID(int=number) for number in range(20)]
    with ThreadPoolExecutor(8) as pool, capture_logs() as logs:
        for one in begun:
            list(pool.map(partial(Witness(tmp_path).write, one), range(1, 9)))
    assert logs == []
    assert {Witness(tmp_path).read(one) for one in begun} <= set(range(1, 9))
    assert len(list(tmp_path.iterdir())) == len(begun)


@pytest.mark.parametrize("before", ["", '{"incarnation": "x", "position": 1}', "x" * 4096])
def test_a_file_of_another_length_is_replaced(tmp_path: Path, before: str) -> None:
    witness = Witness(tmp_path)
    witness.write(ONE, 1)
    only_file(tmp_path).write_text(before)
    witness.write(ONE, 2)
    assert witness.read(ONE) == 2


def test_what_an_earlier_release_has_written_is_read(tmp_path: Path) -> None:
    witness = Witness(tmp_path)
    witness.write(ONE, 1)
    only_file(tmp_path).write_text(json.dumps({"incarnation": str(ONE), "position": 41}))
    assert witness.read(ONE) == 41


@pytest.mark.parametrize("half", ['{"position": 2999, "once_more": 1999}', "[]", "", "{}", '{"position": "'])
def test_half_a_file_says_nothing(tmp_path: Path, half: str) -> None:
    witness = Witness(tmp_path)
    witness.write(ONE, 1)
    only_file(tmp_path).write_text(half)
    assert witness.read(ONE) is None


@pytest.mark.parametrize("position", ["1e999", "-5", "2.5", "true", "null", '"7"', str(2**63), "9" * 300])
def test_what_no_database_can_have_reached_says_nothing(tmp_path: Path, position: str) -> None:
    witness = Witness(tmp_path)
    witness.write(ONE, 1)
    only_file(tmp_path).write_text(f'{{"position": {position}}}')
    assert witness.read(ONE) is None
    witness.write(ONE, 2)
    assert witness.read(ONE) == 2


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    directory, other = tmp_path / "state", tmp_path / "other"
    witness = Witness(directory)
    witness.write(ONE, 1)
    path = only_file(directory)
    other.write_text("x" * SIZE)
    path.unlink()
    path.symlink_to(other)
    witness.write(ONE, 2)
    assert other.read_text() == "x" * SIZE
    assert (witness.read(ONE), path.is_symlink()) == (2, False)


def test_all_processes_of_a_directory_have_its_name_and_no_other_s(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(lambda _: Witness(tmp_path / "one").place, range(32)))
    assert names == {Witness(tmp_path / "one").place}
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["place"]
    assert len({Witness(directory).place for directory in (tmp_path / "one", tmp_path / "two", None, None)}) == 4


def test_a_directory_that_takes_no_name_costs_no_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    witness = Witness(tmp_path / "file" / "state")
    assert witness.place == witness.place


@pytest.mark.usefixtures("no_room")
def test_a_full_disk_is_no_failure_and_nothing_half_written_stays(tmp_path: Path) -> None:
    witness = Witness(tmp_path)
    witness.write(ONE, 1)
    assert (witness.read(ONE), witness.place == witness.place) == (None, True)
    with pytest.raises(OSError, match="too large"):
        witness.require_room()
    assert list(tmp_path.iterdir()) == []


def test_to_look_for_room_leaves_nothing_behind(tmp_path: Path) -> None:
    Witness(tmp_path / "one" / "two").require_room()
    assert list(tmp_path.iterdir()) == []


def test_a_state_directory_may_begin_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_directory("~/state") == tmp_path / "state"
    with pytest.raises(SettingsError, match=r"^SYNC_STATE_DIR: ~nobody-of-this-name/state begins with a home"):
        state_directory("~nobody-of-this-name/state")
