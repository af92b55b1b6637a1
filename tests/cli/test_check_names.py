"""Each line of `check` names the setting or the command that changes what it tells, where there is one."""

import re
from collections.abc import Mapping

import pytest

from sync.demo.simulator import Operation
from sync.service.status import remedies
from tests.support.mirror import ACCESS_TOKEN, Mirror
from tests.support.receiver import receiving
from tests.support.two_tokens import KEY

from .conftest import Cli
from .outbox.helpers import add_row

NAMES = re.compile(r"\b(SYNC|MEWS)_[A-Z_]+|\bDATABASE_URL\b|\bALL_PROXY\b|`voucher-sync [a-z]+|--connection\b")
HAVE_NONE = {
    "host": "what runs here",
    "settings": "that all could be read",
    "server": "the release of the database's server",
    "tables": "whether somebody has changed them",
    "rates": "what the hotel gives its vouchers",
    "services/getAll": "what Mews permits",
    "vouchers/getAll": "what Mews permits",
    "voucherCodes/getAll": "what Mews permits",
    "clock": "the machine's clock",
}
"""What no setting and no command of ours changes, by subject."""

OF_OTHERS = {"Discontinued", "DatabaseBusy"}
"""Errors of which another release helps, or who uses the same database."""


async def told(cli: Cli, settings: Mapping[str, str], *arguments: str) -> dict[str, str]:
    """Each line with its advice, by its subject without a connection's name."""
    ended = await cli("check", *arguments, settings=settings)
    lines = re.split(r"^(?=ok |WRONG)", ended.stdout, flags=re.MULTILINE)[1:]
    return {line[6:].partition(": ")[0]: " ".join(line.split()) for line in lines}


def unnamed(lines: Mapping[str, str]) -> list[str]:
    """Lines that name nothing, and are not of what nothing changes."""
    return [line for subject, line in lines.items() if subject not in HAVE_NONE and not NAMES.search(line)]


@pytest.mark.long
async def test_where_all_is_well(cli: Cli, mirror: Mirror) -> None:
    async with mirror.opened(), receiving() as receiver:
        more = {
            "SYNC_ALERT_WEBHOOK_URL": receiver.url,
            "SYNC_INTEGRATION_BIND": "127.0.0.1:8322",
            "SYNC_INTEGRATION_SECRET": "a" * 32,
            "SYNC_SECRET_KEY": KEY,
            "SYNC_HTTP_BIND": "127.0.0.1:8321",
        }
        lines = await told(cli, mirror.environment | more, "--alert")
    assert all(line.startswith("ok") for line in lines.values()), lines
    assert {"state", "http", "integration", "privileges", "database", "roles", "outbox", "credentials", "alert"} <= {
        *lines
    }
    assert unnamed(lines) == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("more", "wrong"),
    [
        ({"SYNC_INTEGRATION_BIND": "127.0.0.1:8322"}, "integration"),
        ({"SYNC_HTTP_BIND": "0.0.0.0:8321"}, "http"),
        ({"SYNC_LISTEN_URL": "postgresql://user:the@password@db/vouchers"}, "listen"),
        ({"SYNC_PING_URL": "https://ping.example/x", "ALL_PROXY": "socks5://127.0.0.1:9"}, "alert"),
        ({"SYNC_ALERT_WEBHOOK_URL": "https://hook.example/x", "ALL_PROXY": "socks5://127.0.0.1:9"}, "alert"),
    ],
)
async def test_what_run_does_not_start_with_is_told(cli: Cli, mirror: Mirror, more: dict[str, str], wrong: str) -> None:
    async with mirror.opened():
        settings = mirror.environment | {"NO_PROXY": "127.0.0.1"} | more
        lines = await told(cli, settings)
        tried = await cli("check", "--alert", settings=settings)
        started = await cli("run", settings=settings)
    assert started.code == 2, "nothing to be told"
    assert len(re.findall("^WRONG.* cannot be used", tried.stdout, re.MULTILINE)) <= 1, "one address is told of twice"
    assert [subject for subject, line in lines.items() if line.startswith("WRONG")] == [wrong]
    assert unnamed(lines) == []


@pytest.mark.long
async def test_where_tokens_and_database_are_others(cli: Cli, mirror: Mirror, unreachable_url: str) -> None:
    everything = set(Operation)
    async with mirror.opened():
        await cli("once", settings=mirror.environment)
        add_row(mirror.database_url, "A", "held", held_because="too_many_deletes")
        seen = [await told(cli, mirror.environment, "--connection", "lake")]
        mirror.world.tokens[ACCESS_TOKEN].enterprise_ids.clear()
        seen.append(await told(cli, mirror.environment))
        mirror.world.permit(ACCESS_TOKEN, everything - {Operation.GET_ENTERPRISES})
        seen.append(await told(cli, mirror.environment))
        await mirror.execute("UPDATE sync.connections SET paused_at = now()")
        seen.append(await told(cli, mirror.environment))
    seen.append(await told(cli, {"DATABASE_URL": unreachable_url}))
    assert all(any(line.startswith("WRONG") for line in lines.values()) for lines in seen), seen
    assert [line for lines in seen for line in unnamed(lines)] == []


@pytest.mark.parametrize("stored", [None, "lake"])
def test_what_is_advised_of_an_error(stored: str | None) -> None:
    advice = {
        kind: remedies.of_answer(kind, stored) for kind in {**remedies.API, **remedies.STORED}
    } | remedies.DATABASE
    assert [kind for kind, words in advice.items() if kind not in OF_OTHERS and not NAMES.search(words)] == []
