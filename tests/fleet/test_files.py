"""Files of connections, as spreadsheets and people leave them."""

import pytest

from sync.core.errors import VoucherSyncError
from sync.fleet.files import Checks, read_connections

AS_GIVEN = Checks(lambda token: token, lambda address: address)
LINE = "lake;the-token-of-lake"


def names(content: str) -> list[str]:
    found, bad = read_connections(content, AS_GIVEN, "https://api.mews.com")
    assert bad == []
    assert {one.access_token for one in found} == {"the-token-of-lake"}
    return [one.name for one in found]


@pytest.mark.parametrize(
    "content",
    [
        f"name;access_token\n{LINE}\n",
        f"name;access_token\r\n{LINE}\r\n",
        f"name;access_token\r{LINE}\r",
        f"sep=;\r\nname;access_token\r\n{LINE}\r\n",
        f"\n ; \nname;access_token\n\n;\n{LINE}\n",
        f'"Name" ;"ACCESS_TOKEN"\n{LINE}',
        f"sep=\t\nname;access_token\n{LINE}\n".replace(";", "\t"),
        f"name;access_token\n{LINE}\n".replace(";", ","),
        f"name;access_token; ;\n{LINE};;\n",
        f"name;access_token\n{LINE};;\n",
    ],
    ids=["plain", "CRLF", "CR", "sep", "blank lines", "quotes", "tabs", "commas", "empty columns", "empty cells"],
)
def test_what_spreadsheets_write_is_read(content: str) -> None:
    assert names(content) == ["lake"]


@pytest.mark.parametrize("line", ["lake", "lake;", "lake; ;x"])
def test_a_line_without_a_token_says_so(line: str) -> None:
    found, (bad,) = read_connections(f"name;access_token;client_token\n{line}\n", AS_GIVEN, "https://api.mews.com")
    assert (found, bad.line, bad.reason) == ([], 2, "access_token: is missing")


def test_names_that_look_the_same_are_one() -> None:
    lines = [LINE.replace("lake", name, 1) for name in ("Cafe\u0301", "Caf\xe9")]
    found, (bad,) = read_connections("\n".join(["name;access_token", *lines]), AS_GIVEN, "https://api.mews.com")
    assert ([one.name for one in found], bad.reason) == (["Caf\xe9"], "name: line 2 has the same")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "must name its columns"),
        ("sep=;\n", "must name its columns"),
        (f"{LINE}\n", "must name its columns"),
        (f"name;access_token;{'x' * 200_000}\n{LINE}\n", "must name its columns"),
        ("name;access_token\n", "the file names no connection"),
        ("name;access_token\n\n;\n", "the file names no connection"),
    ],
    ids=["empty", "sep", "no header", "long header", "header", "blank lines"],
)
def test_what_names_no_connection_is_told_without_being_quoted(content: str, told: str) -> None:
    with pytest.raises(VoucherSyncError, match=told) as refused:
        read_connections(content, AS_GIVEN, "https://api.mews.com")
    assert "lake" not in str(refused.value)
