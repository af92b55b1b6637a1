"""What is given to commands of any kind: texts, names of connections, and the option `--json`."""

import re
from typing import Any

import click

from sync.core.names import composed


class Words(click.ParamType[str]):
    """A text that the database can hold."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Click's own way to ask for it."""
        if re.search("[\0\ud800-\udfff]", value):
            self.fail("is not a text in UTF-8, or holds a NUL", param, ctx)
        return str(value)


class ConnectionName(Words):
    """What a connection is called."""

    name = "connection"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Click's own way to ask for it."""
        return composed(super().convert(value, param, ctx))


WORDS, CONNECTION = Words(), ConnectionName()
option_json = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
