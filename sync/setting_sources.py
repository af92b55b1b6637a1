"""Where settings come from: the environment, files that it names, and the `.env` of the working directory.

The environment wins over `.env`, whose file for the same setting is not read then. In one place a setting is given
directly or by a file that `NAME_FILE` names, not both. Nothing here knows what a setting means; messages hold names and
paths, no values.
"""

import os
import re
import select
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import BinaryIO

from dotenv.parser import parse_stream

from sync.core.encodings import encoding_of
from sync.core.errors import SettingsError

DOT_ENV = Path(".env")
MAX_BYTES = 64 * 1024
"""No secret and no `.env` is longer; a device never ends."""
PIPE_S = 10.0
"""For so long a pipe is waited for until somebody writes into it, as a shell's `<(...)` does at once."""
OURS = ("SYNC_", "MEWS_")
"""Who sets a variable that begins so means this service."""
LIKENESS = 0.9
"""Of a variable that begins otherwise to one of ours, from which on it is taken for a slip of the pen."""
ACCESS_LIST = "system.posix_acl_access"
_piped: dict[tuple[int, int], bytes] = {}
"""What this process has read from pipes, by the device and number of each. Settings are loaded more than once."""


def read_sources(names: Collection[str], tell: Callable[[str], None]) -> dict[str, str]:
    """The values of those `names` that are set. `tell` is told in a sentence of what is passed over.

    Raises `SettingsError` for what cannot be read, and for a name that is given both directly and by a file.
    """
    files = {f"{name}_FILE" for name in names}
    given_by: dict[str, tuple[str, str]] = {}
    for place, given in ((".env", _dot_env(tell)), ("the environment", os.environ)):
        known = {name.upper(): value for name, value in given.items() if name.upper() in {*names, *files}}
        for name in names:
            if name in known and f"{name}_FILE" in known:
                raise SettingsError(f"{name}: {name}_FILE is set too, in {place}: unset one of them")
            for variable in {name, f"{name}_FILE"} & known.keys():
                given_by[name] = variable, known[variable]
        for slip in _slips(given, {*names, *files}, place):
            tell(slip)
    return {
        name: given if variable == name else _secret(variable, given) for name, (variable, given) in given_by.items()
    }


def _slips(given: Mapping[str, str], known: Collection[str], place: str) -> Iterator[str]:
    """What looks like a setting of this service, and is none."""
    for name in sorted(set(map(str.upper, given)) - set(known)):
        is_ours = re.sub(r"\W", "_", name).startswith(OURS)
        near = get_close_matches(name, known, n=1, cutoff=0.6 if is_ours else LIKENESS)
        if near or is_ours:
            meant = f": is {near[0]} meant?" if near else ""
            yield f"{name}, in {place}, is no setting of this service and is ignored{meant}"


def _secret(name: str, given: str) -> str:
    path = Path(given.strip())
    if not given.strip():
        raise SettingsError(f"{name}: is set but empty: name a file, or unset it")
    # What does not begin at the root may be the secret itself, set under the wrong name.
    shown = str(path) if path.is_absolute() else "what it names (a path from / on would be shown here)"
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if stat.S_ISCHR(os.fstat(file.fileno()).st_mode):
                raise SettingsError(f"{name}: {shown} cannot be read: it is a device")
            content = _content(name, shown, file)
    except OSError as error:
        raise SettingsError(f"{name}: {shown} cannot be read: {error.strerror}") from None
    secret, setting = _text(name, shown, content).strip(), name.removesuffix("_FILE")
    if secret.removeprefix("export ").startswith(f"{setting}="):
        raise SettingsError(f"{name}: {shown} holds a line of an .env: leave what is behind {setting}= alone in it")
    return secret


def _open_at_once(path: str, flags: int) -> int:
    """A pipe into which nobody writes would be waited for without an end."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _content(name: str, path: str, file: BinaryIO) -> bytes:
    is_pipe = stat.S_ISFIFO(os.fstat(file.fileno()).st_mode)
    return _from_pipe(name, path, file.fileno()) if is_pipe else file.read(MAX_BYTES + 1)


def _from_pipe(name: str, path: str, descriptor: int) -> bytes:
    """All that is written into a pipe, until the last who writes has closed it; to who asks again, the same: it is
    written once.
    """
    status = os.fstat(descriptor)
    if (pipe := (status.st_dev, status.st_ino)) in _piped:
        return _piped[pipe]
    content = b""
    while len(content) <= MAX_BYTES:
        if not select.select([descriptor], [], [], PIPE_S)[0]:
            raise SettingsError(f"{name}: {path} cannot be read: nobody writes into it, which is a pipe")
        part = os.read(descriptor, MAX_BYTES)
        if not part:
            break
        content += part
    _piped[pipe] = content
    return content


def _text(name: str, path: str, content: bytes) -> str:
    """UTF-8, or UTF-16 where it begins with the mark of that, as editors and shells of Windows write it."""
    if len(content) > MAX_BYTES:
        raise SettingsError(f"{name}: {path} cannot be read: it has more than {MAX_BYTES:,} bytes")
    try:
        return content.decode(encoding_of(content))
    except UnicodeDecodeError:
        raise SettingsError(f"{name}: {path} cannot be read: it is not a text in UTF-8") from None


def _dot_env(tell: Callable[[str], None]) -> dict[str, str]:
    try:
        with open(DOT_ENV, "rb", opener=_open_at_once) as file:
            if why := _strangers_way(os.fstat(file.fileno())):
                tell(
                    f".env is not read: {why}, and could have the tokens sent elsewhere; see that {DOT_ENV.absolute()} "
                    f"and its directory belong to you or root, and that nobody else may write there"
                )
                return {}
            text = _text("settings", str(DOT_ENV), _content("settings", str(DOT_ENV), file))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return {}  # a directory of this name is a virtual environment of Python's
    except OSError as error:
        raise SettingsError(f"settings: .env cannot be read: {error.strerror}") from None
    values: dict[str, str] = {}
    # Not by `dotenv_values`: it takes `${...}` in a password, also in quotes, for a variable, which is mostly not set.
    for binding in parse_stream(StringIO(text)):
        if binding.error or (binding.key is not None and binding.value is None):
            raise SettingsError(f"settings: .env cannot be read: line {binding.original.line} is not NAME=value")
        if binding.key is not None and binding.value is not None:
            values[binding.key] = binding.value
    return values


def _strangers_way(file: os.stat_result) -> str:
    """How somebody else could have written `.env` or put it there, or nothing."""
    if not hasattr(os, "geteuid"):
        return ""  # Windows keeps no such modes
    if not _is_ours(file.st_uid) or not _is_ours(DOT_ENV.lstat().st_uid):
        return "it belongs to another user"
    if _others_may_write(file, DOT_ENV):
        return "others may write it"
    for directory in {Path.cwd(), DOT_ENV.resolve().parent}:
        there = directory.stat()
        # In a directory with the sticky bit, as /tmp, nobody else can replace what is ours.
        if not _is_ours(there.st_uid) or (_others_may_write(there, directory) and not there.st_mode & stat.S_ISVTX):
            return "others may write in its directory"
    return ""


def _is_ours(uid: int) -> bool:
    return uid in {os.geteuid(), 0}


def _others_may_write(it: os.stat_result, path: Path) -> bool:
    if it.st_mode & stat.S_IWOTH:
        return True
    # With an access control list, the group's right is the most that any user of that list has.
    return bool(it.st_mode & stat.S_IWGRP) and (_has_access_list(path) or not _is_private_group(it.st_gid))


def _has_access_list(path: Path) -> bool:
    try:
        return ACCESS_LIST in os.listxattr(path)
    except (AttributeError, OSError):  # neither every system nor every file system has them
        return False


def _is_private_group(gid: int) -> bool:
    """Whether a group has no member but ourselves, as where every user has one, and files are made for it to write."""
    import grp  # noqa: PLC0415 - there is none on Windows
    import pwd  # noqa: PLC0415 - nor this

    try:
        user = pwd.getpwuid(os.geteuid())
        group = grp.getgrgid(gid)
    except KeyError:
        return False
    return user.pw_gid == gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}
