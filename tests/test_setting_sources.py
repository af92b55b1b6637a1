"""Files and names: what is read however it was written, what is refused, and what nobody else may bring in."""

import grp
import os
import pwd
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from sync.core.errors import SettingsError
from sync.setting_sources import MAX_BYTES, read_sources

NAMES = ("DATABASE_URL", "MEWS_ACCESS_TOKEN", "MEWS_CLIENT_TOKEN", "SYNC_LEASE_S")
NOBODY = 65534
ANY = 0xFFFFFFFF

Read = Callable[..., dict[str, str]]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def told() -> list[str]:
    """What was told of what is passed over."""
    return []


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: list[str]) -> Read:
    """Reads the sources with these variables alone, in a directory of its own."""
    (tmp_path / "here").mkdir(mode=0o755)
    monkeypatch.chdir(tmp_path / "here")

    def read_with(**variables: str) -> dict[str, str]:
        monkeypatch.setattr(os, "environ", variables)
        return read_sources(NAMES, told.append)

    return read_with


def write(content: str | bytes, name: str = ".env", mode: int = 0o644) -> Path:
    path = Path(name)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


# Files of secrets


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfABC-DEF\r\n",
        "ABC-DEF\r\n".encode("utf-16"),
        b"\xfe\xff" + "ABC-DEF".encode("utf-16-be"),
        b"ABC-DEF",
        "\u00a0ABC-DEF\u00a0\n".encode(),
    ],
    ids=["utf-8 with a mark", "utf-16", "utf-16 the other way", "bare", "spaces"],
)
def test_a_secret_is_the_same_however_its_file_was_written(read: Read, content: bytes) -> None:
    path = write(content, "secret")
    assert read(MEWS_ACCESS_TOKEN_FILE=str(path)) == {"MEWS_ACCESS_TOKEN": "ABC-DEF"}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("missing", "No such file"),
        (".", "Is a directory"),
        ("/dev/zero", "it is a device"),
        ("long", f"more than {MAX_BYTES:,} bytes"),
        ("latin", "not a text in UTF-8"),
        ("line", "leave what is behind MEWS_ACCESS_TOKEN= alone in it"),
        ("", "is set but empty"),
    ],
)
def test_a_file_that_holds_no_secret_is_named(read: Read, path: str, words: str) -> None:
    write(b"x" * (MAX_BYTES + 1), "long")
    write("\xe9".encode("latin-1"), "latin")
    write(b"export MEWS_ACCESS_TOKEN=hush\n", "line")
    with pytest.raises(SettingsError, match=words) as raised:
        read(MEWS_ACCESS_TOKEN_FILE=path)
    assert str(raised.value).startswith("MEWS_ACCESS_TOKEN_FILE: ")
    assert "hush" not in str(raised.value)


def test_a_secret_in_the_place_of_its_files_name_is_not_shown(read: Read) -> None:
    for secret in ("C66EF7-hush-B239D2", "postgresql://user:hush@db.example/vouchers", "hush\n"):
        with pytest.raises(SettingsError, match=r"^DATABASE_URL_FILE: what it names .* cannot be read: ") as raised:
            read(DATABASE_URL_FILE=secret)
        assert "hush" not in str(raised.value)


def test_a_line_end_behind_a_files_name_is_none_of_it(read: Read, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("ABC-DEF")
    assert read(MEWS_ACCESS_TOKEN_FILE=f"{tmp_path}/token\n") == {"MEWS_ACCESS_TOKEN": "ABC-DEF"}


def test_a_pipe_will_do_however_often_it_is_asked_for(read: Read) -> None:
    there, here = os.pipe()
    os.write(here, b"ABC-DEF\n")
    os.close(here)
    assert [read(MEWS_ACCESS_TOKEN_FILE=f"/dev/fd/{there}") for _ in "12"] == [{"MEWS_ACCESS_TOKEN": "ABC-DEF"}] * 2
    os.close(there)


def test_dot_env_may_name_files_too(read: Read) -> None:
    write("ABC-DEF", "secret")
    write("MEWS_ACCESS_TOKEN_FILE=secret\nMEWS_CLIENT_TOKEN_FILE=/not-needed\nSYNC_LEASE_S=7\n")
    given = read(MEWS_CLIENT_TOKEN="GHI", SYNC_LEASE_S="8")
    assert given == {"MEWS_ACCESS_TOKEN": "ABC-DEF", "MEWS_CLIENT_TOKEN": "GHI", "SYNC_LEASE_S": "8"}


@pytest.mark.parametrize("name", NAMES)
def test_a_value_and_a_file_for_it_are_one_too_many(read: Read, name: str) -> None:
    write("hush", "secret")
    with pytest.raises(SettingsError, match=f"{name}: {name}_FILE is set too, in the environment"):
        read(**{name: "hush", f"{name}_FILE": "secret"})
    write(f"{name}=hush\n{name}_FILE=secret\n")
    with pytest.raises(SettingsError, match=rf"{name}: {name}_FILE is set too, in \.env"):
        read()


# The .env file


@pytest.mark.parametrize(
    "content",
    [
        "export SYNC_LEASE_S=7\n",
        "\ufeffSYNC_LEASE_S=7\n",
        "SYNC_LEASE_S='7'\r\n# a comment\r\n",
        'sync_lease_s = "7"',
        "SYNC_LEASE_S=7".encode("utf-16"),
        "\nSOMETHING_ELSE=1\n\nSYNC_LEASE_S=7 # seconds\n",
    ],
)
def test_dot_env_is_read_as_people_write_it(read: Read, told: list[str], content: str | bytes) -> None:
    write(content)
    assert (read(), told) == ({"SYNC_LEASE_S": "7"}, [])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("SYNC_LEASE_S=7\nMEWS_ACCESS_TOKEN='hush\n", "line 2 is not NAME=value"),
        ("SYNC_LEASE_S\n", "line 1 is not NAME=value"),
        ("MEWS_ACCESS_TOKEN: hush\n", "line 1 is not NAME=value"),
        (b"SYNC_LEASE_S=\xff", "not a text in UTF-8"),
    ],
)
def test_a_line_of_dot_env_that_says_nothing_is_named(read: Read, content: str | bytes, words: str) -> None:
    write(content)
    with pytest.raises(SettingsError, match=words) as raised:
        read()
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize(("file_mode", "directory_mode"), [(0o644, 0o755), (0o600, 0o700), (0o644, 0o1777)])
def test_dot_env_is_read_where_nobody_else_may_write(read: Read, file_mode: int, directory_mode: int) -> None:
    write("SYNC_LEASE_S=7", mode=file_mode)
    Path().chmod(directory_mode)
    assert read() == {"SYNC_LEASE_S": "7"}


@pytest.mark.parametrize(
    ("file_mode", "directory_mode", "words"),
    [
        (0o646, 0o755, "others may write it"),
        (0o666, 0o755, "others may write it"),
        (0o644, 0o777, "others may write in its directory"),
        (0o644, 0o757, "others may write in its directory"),
    ],
)
def test_dot_env_that_others_may_write_is_passed_over(
    read: Read, told: list[str], file_mode: int, directory_mode: int, words: str
) -> None:
    write("MEWS_PLATFORM_ADDRESS=https://evil.example", mode=file_mode)
    Path().chmod(directory_mode)
    assert read() == {}
    (line,) = told
    assert line.startswith(f".env is not read: {words}")
    assert str(Path.cwd()) in line


def test_dot_env_behind_a_link_into_an_open_directory_is_passed_over(read: Read, told: list[str]) -> None:
    Path("open").mkdir()
    Path("open").chmod(0o777)
    write("SYNC_LEASE_S=7", "open/env")
    Path(".env").symlink_to("open/env")
    assert read() == {}
    assert "in its directory" in told[0]


@needs_root
def test_dot_env_of_another_user_is_passed_over(read: Read, told: list[str]) -> None:
    os.chown(write("SYNC_LEASE_S=7"), NOBODY, NOBODY)
    assert read() == {}
    assert "belongs to another user" in told[0]


def test_a_directory_of_that_name_is_no_dot_env(read: Read, told: list[str]) -> None:
    Path(".env").mkdir()
    assert (read(), told) == ({}, [])


def test_a_pipe_that_nobody_writes_into_is_not_waited_for(read: Read, told: list[str]) -> None:
    os.mkfifo(".env")
    Path(".env").chmod(0o666)
    assert read() == {}
    assert "others may write it" in told[0]


@needs_root
def test_a_link_of_another_user_is_passed_over(read: Read, told: list[str]) -> None:
    write("SYNC_LEASE_S=7", "mine")
    Path(".env").symlink_to("mine")
    os.lchown(".env", NOBODY, NOBODY)
    assert read() == {}
    assert "belongs to another user" in told[0]


@needs_root
def test_a_group_that_has_others_in_it_may_not_write(read: Read, told: list[str]) -> None:
    os.chown(write("SYNC_LEASE_S=7", mode=0o664), 0, NOBODY)
    Path(".env").chmod(0o664)
    assert read() == {}
    assert "others may write it" in told[0]


def give_access(path: str, user_id: int, owners: int) -> None:
    """Lets a single user write, by an access control list; the mode shows that as the group's right."""
    entries = ((1, owners, ANY), (2, owners, user_id), (4, owners & 5, ANY), (0x10, owners, ANY), (0x20, 4, ANY))
    content = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", content)
    except (AttributeError, OSError) as error:
        pytest.skip(f"no access control lists here: {error}")


def test_a_single_user_who_was_let_in_may_not_write(read: Read, told: list[str]) -> None:
    write("SYNC_LEASE_S=7")
    give_access(".env", NOBODY, 6)
    assert read() == {}
    assert "others may write it" in told[0]


def test_nor_may_one_write_in_its_directory(read: Read, told: list[str]) -> None:
    write("SYNC_LEASE_S=7")
    give_access(".", NOBODY, 7)
    assert read() == {}
    assert "others may write in its directory" in told[0]


def test_a_group_of_ones_own_may_write(read: Read) -> None:
    user = pwd.getpwuid(os.geteuid())
    group = grp.getgrgid(user.pw_gid)
    if group.gr_name != user.pw_name or set(group.gr_mem) - {user.pw_name}:
        pytest.skip("this user has no group of its own")
    write("SYNC_LEASE_S=7", mode=0o664)
    assert read() == {"SYNC_LEASE_S": "7"}


# Slips of the pen


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SYNC_LEASE", "SYNC_LEASE_S"),
        ("SYNC_LEESE_S", "SYNC_LEASE_S"),
        ("MEWS_ACCES_TOKEN", "MEWS_ACCESS_TOKEN"),
        ("MEWS_CLIENT_TOKEN_FIEL", "MEWS_CLIENT_TOKEN_FILE"),
        ("MEW_ACCESS_TOKEN", "MEWS_ACCESS_TOKEN"),
        ("SNYC_LEASE_S", "SYNC_LEASE_S"),
        ("DATABASE_URI", "DATABASE_URL"),
        ("DATABASEURL", "DATABASE_URL"),
        ("mews_accesstoken", "MEWS_ACCESS_TOKEN"),
        ("SYNC_XYZZY", ""),
        ("SYNC-LEASE-S", "SYNC_LEASE_S"),
        ("mews.access-token", "MEWS_ACCESS_TOKEN"),
    ],
)
def test_a_name_that_is_none_of_ours_is_told_with_the_nearest(
    read: Read, told: list[str], name: str, meant: str
) -> None:
    hint = f": is {meant} meant?" if meant else ""
    expected = f"{name.upper()}, in {{}}, is no setting of this service and is ignored{hint}"
    read(**{name: "hush"})
    write(f"{name}=hush")
    read()
    assert told == [expected.format("the environment"), expected.format(".env")]


@pytest.mark.parametrize("name", ["PATH", "DATABASE_USER", "DATABASE_PASSWORD", "TEST_DATABASE_URL", "LEASE", "PGUSER"])
def test_other_programs_variables_are_their_own(read: Read, told: list[str], name: str) -> None:
    assert (read(**{name: "x"}), told) == ({}, [])
