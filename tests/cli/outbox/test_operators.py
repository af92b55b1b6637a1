"""An operator's login is all that the commands need that move what others queued."""

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.cli.conftest import Cli
from tests.cli.outbox.helpers import OTHER, add_row, query
from tests.support.users import login


@pytest.mark.long
async def test_an_operator_moves_rows_by_command_and_is_named(cli: Cli, database_url: str) -> None:
    moves = {"retry": "failed", "release": "held", "cancel": "pending"}
    ids = {command: add_row(database_url, command.upper(), status) for command, status in moves.items()}
    with login(database_url, member_of="mews_operator") as url:
        for command, row_id in ids.items():
            ended = await cli("outbox", command, str(row_id), settings={"DATABASE_URL": url})
            assert ended.code == 0, ended.stderr
        for call in (("outbox", "list"), ("outbox", "show", str(ids["retry"]))):
            assert (await cli(*call, settings={"DATABASE_URL": url})).code == 0
        refused = await cli("outbox", "delete", "--code", OTHER, settings={"DATABASE_URL": url})
        assert (refused.code, "permission denied" in refused.stderr) == (1, True), refused
    found = query(database_url, "SELECT status, changed_by, changed_how FROM mews.voucher_code_outbox ORDER BY id")
    name = conninfo_to_dict(url)["user"]
    assert found == [("pending", name, "retried"), ("pending", name, "released"), ("cancelled", name, "cancelled")]
