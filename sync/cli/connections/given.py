"""What users give of connections: tokens come out of files, never from a command line, and no message quotes them."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from pydantic import TypeAdapter, ValidationError

from sync.core.encodings import encoding_of
from sync.fleet.files import Checks
from sync.setting_values import PlatformAddress, Token

MAX_BYTES = 64 * 1024
"""No token is longer; a device never ends."""
MAX_FILE_BYTES = 64 * 2**20


def read_file(name: str, most: int = MAX_FILE_BYTES) -> str:
    """What a file says, or with - the standard input. `UsageError` where it is too long, or no text."""
    if name == "-":
        content = sys.stdin.buffer.read(most + 1)
    else:
        try:
            with Path(name).open("rb") as file:
                content = file.read(most + 1)
        except OSError as error:
            raise click.UsageError(f"{name} cannot be read: {error.strerror}") from None
    if len(content) > most:
        raise click.UsageError(f"{name} has more than {most:,} bytes")
    try:
        return content.decode(encoding_of(content))
    except UnicodeDecodeError:
        raise click.UsageError(f"{name} is not a text in UTF-8 or UTF-16") from None


def read_token(name: str) -> str:
    """The token in a file. `UsageError` where there is none."""
    given = read_file(name, MAX_BYTES).strip()
    if not given:
        raise click.UsageError(f"{'the standard input' if name == '-' else name} holds no token")
    try:
        return CHECKS.token(given)
    except ValueError as error:
        raise click.UsageError(f"the token in {name} {error}") from None


def read_address(given: str) -> str:
    """A platform address. `UsageError` where it is none."""
    try:
        return CHECKS.platform_address(given)
    except ValueError as error:
        raise click.UsageError(f"--platform-address: {error}") from None


def _check(kind: Any) -> Callable[[str], str]:
    adapter = TypeAdapter[Any](kind)

    def check(value: str) -> str:
        try:
            found = adapter.validate_python(value)
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
        return found if isinstance(found, str) else str(found.get_secret_value())

    return check


CHECKS = Checks(_check(Token), _check(PlatformAddress))
