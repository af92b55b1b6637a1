"""Connections are added, changed and shown, and a token is never on a command line, nor in what is shown."""

import json
import re
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sync.fleet.tokens import TokenBox, TokenOf, new_key
from tests.cli.conftest import Cli
from tests.migrations.helpers import execute, query
from tests.support.mirror import CLIENT_TOKEN, Mirror
from tests.support.process import Ended
from tests.support.two_tokens import KEY

LAKE, HILL = "the-token-of-lake", "the-token-of-hill"
ADDRESS = "https://api.mews.com"
Connections = Callable[..., Awaitable[Ended]]
STORED = "SELECT name, access_token, client_token FROM sync.connections WHERE access_token IS NOT NULL ORDER BY name"


@pytest.fixture
def settings(mirror: Mirror) -> dict[str, str]:
    return {**mirror.environment, "MEWS_PLATFORM_ADDRESS": ADDRESS, "SYNC_SECRET_KEY": KEY}


@pytest.fixture
def connections(cli: Cli, settings: dict[str, str], tmp_path: Path) -> Connections:
    """Runs `voucher-sync connections`; `files` are there to be named."""
    for name, content in {"lake": LAKE, "hill": f" {HILL}\n", "client": "a-client-token", "bad": "two words"}.items():
        (tmp_path / name).write_text(content, encoding="utf-8")

    async def run(*words: str, **more: str) -> Ended:
        ended = await cli("connections", *words, settings=settings | more)
        assert not [one for one in (LAKE, HILL, CLIENT_TOKEN, "a-client-token") if one in ended.stdout + ended.stderr]
        return ended

    return run


async def listed(connections: Connections) -> list[dict[str, Any]]:
    ended = await connections("list", "--json")
    return list(json.loads(ended.stdout)["connections"])


def tokens(mirror: Mirror, *keys: str) -> dict[str, tuple[str, str | None]]:
    box, found = TokenBox(keys or [KEY]), dict[str, tuple[str, str | None]]()
    rows: list[Any] = query(mirror.database_url, STORED)
    for name, access, client in rows:
        of_access, of_client = TokenOf(name, ADDRESS, "access"), TokenOf(name, ADDRESS, "client")
        found[name] = (box.decrypt(access, of_access), client and box.decrypt(client, of_client))
    return found


@pytest.mark.long
async def test_one_is_added_paused_resumed_and_removed(mirror: Mirror, connections: Connections) -> None:
    added = await connections("add", "lake", "--access-token-file", "lake", "--client-token-file", "client")
    assert (added.code, added.stdout.split(";")[0]) == (0, "lake is added")
    assert tokens(mirror) == {"lake": (LAKE, "a-client-token")}
    assert (await connections("pause", "lake", "--because", "the hotel is sold")).code == 0
    (lake,) = await listed(connections)
    assert (lake["name"], lake["state"], lake["paused_because"]) == ("lake", "paused", "the hotel is sold")
    assert (await connections("resume", "lake")).stdout == "lake goes on.\n"
    assert (await listed(connections))[0]["state"] == "ok"
    assert (await connections("remove", "lake")).code == 0
    assert (await listed(connections), tokens(mirror)) == ([], {})


@pytest.mark.long
async def test_a_command_that_is_told_can_be_given_to_a_shell(connections: Connections) -> None:
    said = [await connections(*words, "L'Europe") for words in (["add", "--access-token-file=lake"], ["remove"])]
    told = [shlex.split(one) for ended in said for one in re.findall("`voucher-sync (.*)`", ended.stdout)]
    assert told == [["check", "--connection", "L'Europe"], ["connections", "remove", "L'Europe", "--purge"]]


@pytest.mark.long
async def test_a_name_is_the_same_in_each_form_of_unicode(connections: Connections) -> None:
    assert (await connections("add", "Cafe\u0301", "--access-token-file", "lake")).code == 0
    again = await connections("add", "Caf\xe9", "--access-token-file", "hill")
    assert "there already: Caf\xe9" in again.stderr
    assert [(await connections("pause", name)).code for name in ("Cafe\u0301", "Caf\xe9")] == [0, 0]
    assert [one["name"] for one in await listed(connections)] == ["Caf\xe9"]


@pytest.mark.long
async def test_one_that_was_removed_comes_back_under_its_name(mirror: Mirror, connections: Connections) -> None:
    await connections("add", "lake", "--access-token-file", "lake")
    again = await connections("add", "lake", "--access-token-file", "hill")
    assert (again.code, "there already: lake" in again.stderr) == (1, True)
    await connections("remove", "lake")
    assert (await connections("add", "lake", "--access-token-file", "hill")).code == 0
    assert tokens(mirror) == {"lake": (HILL, None)}
    await connections("remove", "lake")
    elsewhere = ("--platform-address", "https://api.mews-demo.com")
    moved = await connections("add", "lake", "--access-token-file", "hill", *elsewhere)
    assert (moved.code, "another platform address" in moved.stderr) == (1, True)


@pytest.mark.long
async def test_the_same_token_twice_is_refused(connections: Connections) -> None:
    await connections("add", "lake", "--access-token-file", "lake")
    twice = await connections("add", "pond", "--access-token-file", "lake")
    assert (twice.code, "connection pond: lake has the same access token" in twice.stderr) == (1, True)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["add", "lake", "--access-token-file", "missing"], "missing cannot be read"),
        (["add", "lake", "--access-token-file", "/dev/null"], "/dev/null holds no token"),
        (["add", "lake", "--access-token-file", "-"], "the standard input holds no token"),
        (["add", "lake", "--access-token-file", "bad"], "the token in bad holds a space"),
        (["add", "default", "--access-token-file", "lake"], "the name is that of the connection whose tokens the env"),
        (["add", "", "--access-token-file", "lake"], "the name has 0 characters"),
        (["add", "a\x07b", "--access-token-file", "lake"], "cannot be shown"),
        (["add", "x" * 101, "--access-token-file", "lake"], "has 101 characters"),
        (
            ["add", "lake", "--access-token-file", "lake", "--platform-address", "http://api.mews.com"],
            "only over https",
        ),
        (["add", "lake", "--access-token-file", "-", "--client-token-file", "-"], "holds one token"),
        (["remove", "default"], "unset MEWS_ACCESS_TOKEN first"),
        (["remove", "lake", "--purge"], "give --yes"),
    ],
    ids=lambda one: one[-1][:20] if isinstance(one, list) else "",
)
async def test_a_call_that_is_wrong_says_so(connections: Connections, words: list[str], told: str) -> None:
    ended = await connections(*words)
    assert (ended.code, told in ended.stderr) == (2, True), ended.stderr


@pytest.mark.parametrize("command", ["pause", "resume", "remove"])
async def test_one_that_is_not_there_is_told(connections: Connections, command: str) -> None:
    ended = await connections(command, "nowhere")
    assert (ended.code, "there is no connection 'nowhere'" in ended.stderr) == (1, True)


@pytest.mark.long
async def test_without_a_key_it_is_said_how_to_make_one(
    cli: Cli, connections: Connections, settings: dict[str, str]
) -> None:
    without = {name: value for name, value in settings.items() if name != "SYNC_SECRET_KEY"}
    ended = await cli("connections", "add", "lake", "--access-token-file", "lake", settings=without)
    assert (ended.code, "`voucher-sync connections key`" in ended.stderr) == (2, True)
    made = await connections("key")
    assert (
        await connections("add", "lake", "--access-token-file", "lake", SYNC_SECRET_KEY=made.stdout.strip())
    ).code == 0


async def test_without_any_client_token_none_is_added(cli: Cli, settings: dict[str, str], tmp_path: Path) -> None:
    del settings["MEWS_CLIENT_TOKEN"]
    (tmp_path / "lake").write_text(LAKE, encoding="utf-8")
    ended = await cli("connections", "add", "lake", "--access-token-file", "lake", settings=settings)
    assert (ended.code, "there is no client token" in ended.stderr) == (2, True)


@pytest.mark.long
async def test_a_new_key_takes_over_by_reencrypting(mirror: Mirror, connections: Connections) -> None:
    new = new_key()
    await connections("add", "lake", "--access-token-file", "lake", "--client-token-file", "client")
    refused = await connections("reencrypt", SYNC_SECRET_KEY=new)
    assert (refused.code, "connection lake: no key" in refused.stderr) == (2, True)
    ended = await connections("reencrypt", SYNC_SECRET_KEY=f"{new},{KEY}")
    assert ended.code == 0, ended.stderr
    assert tokens(mirror, new) == {"lake": (LAKE, "a-client-token")}


async def test_a_new_key_reads_events_that_wait_too(mirror: Mirror, connections: Connections) -> None:
    new, of = new_key(), TokenOf("integration i", ADDRESS, "access")
    with psycopg.connect(mirror.database_url, autocommit=True) as database:
        database.execute(
            "INSERT INTO sync.integration_events (digest, action, integration_id, access_token) VALUES "
            "('1', 'IntegrationCreated', 'i', %s), ('2', 'IntegrationCreated', 'i', %s)",
            [TokenBox([KEY]).encrypt(LAKE, of), TokenBox([new_key()]).encrypt(LAKE, of)],
        )
    assert (await connections("reencrypt", SYNC_SECRET_KEY=f"{new},{KEY}")).code == 0
    kept: list[Any] = query(mirror.database_url, "SELECT access_token FROM sync.integration_events ORDER BY id")
    assert TokenBox([new]).decrypt(kept[0][0], of) == LAKE


@pytest.mark.long
async def test_a_file_is_imported_whole_or_not_at_all(mirror: Mirror, connections: Connections, tmp_path: Path) -> None:
    head = "name;access_token;client_token;platform_address\n"
    good = f"{head}lake;{LAKE};;\n\nhill;{HILL};a-client-token;https://api.mews.com/\n"
    (tmp_path / "hotels.csv").write_text(f"{good}lake;{LAKE};;\nmoor;two words;;\n;x;;\n", encoding="utf-8")
    bad = await connections("import", "hotels.csv")
    assert (bad.code, tokens(mirror)) == (1, {})
    assert [line.partition(":")[0] for line in bad.stderr.splitlines()] == ["line 5", "line 6", "line 7", "Error"]
    (tmp_path / "hotels.csv").write_text(good, encoding="utf-8")
    assert (await connections("import", "hotels.csv", "--dry-run")).stdout == "2 connections would be added.\n"
    assert tokens(mirror) == {}
    assert (await connections("import", "hotels.csv")).stdout == "2 connections added.\n"
    assert tokens(mirror) == {"hill": (HILL, "a-client-token"), "lake": (LAKE, None)}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8-sig"])
async def test_a_file_may_be_what_a_spreadsheet_saves_as_text(
    mirror: Mirror, connections: Connections, tmp_path: Path, encoding: str
) -> None:
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    content = f"{mark}name\taccess_token\r\nsee-ö\t{LAKE}\r\n".encode(encoding)
    (tmp_path / "hotels.txt").write_bytes(content)
    assert (await connections("import", "hotels.txt", "--dry-run")).stdout == "1 connection would be added.\n"
    (tmp_path / "hotels.txt").write_bytes(content + b"\xd8")
    broken = await connections("import", "hotels.txt")
    assert (broken.code, tokens(mirror)) == (2, {})
    assert "hotels.txt is not a text in UTF-8 or UTF-16" in broken.stderr


async def test_a_line_with_an_open_quote_is_the_one_that_is_named(connections: Connections, tmp_path: Path) -> None:
    rows = f'name;access_token\nlake;{LAKE}\n"hill;{HILL}\nmoor;{HILL}\n'
    (tmp_path / "hotels.csv").write_text(rows, encoding="utf-8")
    bad = await connections("import", "hotels.csv")
    assert (bad.code, bad.stderr.partition(":")[0]) == (1, "line 3")


@pytest.mark.long
async def test_a_file_without_a_header_is_refused_without_being_quoted(
    connections: Connections, tmp_path: Path
) -> None:
    (tmp_path / "hotels.csv").write_text(f"lake,{LAKE}\n", encoding="utf-8")
    ended = await connections("import", "hotels.csv")
    assert (ended.code, "must name its columns" in ended.stderr) == (1, True)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (f"moor,{LAKE}\n", "connection moor: lake has the same access token"),
        (f"moor,{HILL}\nhill,{HILL}\n", "connection hill: moor has the same access token"),
        (f"lake,{HILL}\n", "there already: lake"),
    ],
    ids=["known token", "token twice", "known name"],
)
async def test_a_dry_run_is_refused_for_what_the_real_one_would_be(
    connections: Connections, tmp_path: Path, lines: str, told: str
) -> None:
    await connections("add", "lake", "--access-token-file", "lake")
    (tmp_path / "hotels.csv").write_text(f"name,access_token\n{lines}", encoding="utf-8")
    for words in (["--dry-run"], []):
        ended = await connections("import", "hotels.csv", *words)
        assert (ended.code, told in ended.stderr) == (1, True), ended.stderr
    assert [one["name"] for one in await listed(connections)] == ["lake"]


@pytest.mark.long
async def test_a_thousand_are_added_by_one_file(mirror: Mirror, connections: Connections, tmp_path: Path) -> None:
    lines = "".join(f"hotel {number},token-{number}\n" for number in range(1000))
    (tmp_path / "hotels.csv").write_text(f"name,access_token\n{lines}", encoding="utf-8")
    assert (await connections("import", "hotels.csv")).stdout == "1,000 connections added.\n"
    assert query(mirror.database_url, "SELECT count(*) FROM sync.connections") == [(1000,)]


@pytest.mark.long
async def test_a_list_names_the_owner_and_why_one_fails(mirror: Mirror, connections: Connections) -> None:
    await connections("add", "lake", "--access-token-file", "lake")
    execute(
        mirror.database_url,
        "INSERT INTO sync.daemons (process, host, pid, version, revision, settings) "
        "VALUES ('00000000-0000-0000-0000-000000000001', 'host-a', 17, '1', '1', '{}')",
        "UPDATE sync.connections SET state = 'failing', error = 'the token was refused', "
        "owner = '00000000-0000-0000-0000-000000000001', caught_up_as_of = now() - interval '1 minute'",
    )
    (lake,) = await listed(connections)
    assert (lake["owner"], lake["error"], lake["late_s"] >= 60) == ("host-a:17", "the token was refused", True)
    line = (await connections("list")).stdout.split("\t")
    assert (line[0], line[2], line[4]) == ("lake", "failing", "host-a:17")
    execute(mirror.database_url, "UPDATE sync.daemons SET heartbeat_at = now() - interval '1 minute'")
    assert (await listed(connections))[0]["owner"] is None, "it has died"
    await connections("pause", "lake", "--because", "closed")
    (paused,) = await listed(connections)
    assert (paused["state"], paused["since"], paused["since"] > lake["since"]) == ("paused", paused["paused_at"], True)


@pytest.mark.long
@pytest.mark.parametrize(
    ("takes", "told"), [(["environment"], "SYNC_SECRET_KEY"), (["stored"], "none of them has noted"), (None, "silent")]
)
async def test_a_list_says_of_what_nobody_works_for_what_status_says(
    connections: Connections, cli: Cli, settings: dict[str, str], takes: list[str] | None, told: str
) -> None:
    await connections("add", "lake", "--access-token-file", "lake")
    execute(
        settings["DATABASE_URL"],
        "INSERT INTO sync.daemons (process, host, pid, version, revision, settings, beat, takes, heartbeat_at) "
        "VALUES (gen_random_uuid(), 'host-a', 17, '1', '1', '{}', 1, "
        f"ARRAY{takes or ['stored']}::text[], now() - interval '{0 if takes else 60} s')",
        "UPDATE sync.connections SET state = 'ok', heartbeat_at = now() - interval '1 hour'",
    )
    (lake,) = await listed(connections)
    (verdict,) = (one["verdict"] for one in json.loads((await cli("status", "--json", settings=settings)).stdout))
    assert (lake["state"], verdict["level"], told in lake["error"]) == ("failing", "failing", True)
    assert lake["error"] == verdict["cause"]
