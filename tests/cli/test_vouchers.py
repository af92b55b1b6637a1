"""`voucher-sync vouchers`: what there is, by the names that people know."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.outbox.helpers import without_colours
from tests.support.mirror import Mirror
from tests.support.outbox import A_WHILE
from tests.support.process import run_on_terminal


@pytest.mark.long
async def test_vouchers_are_listed_with_names_and_codes(cli: Cli, mirror: Mirror, tmp_path: Path) -> None:
    other = mirror.add_voucher("Winter with a name that is long, and goes on for more than one line of a terminal")
    mirror.world.delete_code(next(iter(mirror.world.codes.truth)))
    mirror.clock.advance(A_WHILE)  # what has just changed, in this very second, a pull does not see yet
    async with mirror.opened():
        assert (await cli("once", settings=mirror.environment)).code == 0
        found = json.loads((await cli("vouchers", "--json", settings=mirror.environment)).stdout)["vouchers"]
        summer, winter = found
        assert (summer["name"], summer["active_codes"], summer["codes"]) == ("Summer", 2, 3)
        assert (winter["id"], winter["active_codes"], winter["codes"]) == (str(other.id), 0, 0)
        assert {one["enterprise_name"] for one in found} == {mirror.hotel.name}
        lines = (await cli("vouchers", settings=mirror.environment)).stdout.splitlines()
        assert lines[0].split("\t")[:2] == [summer["id"], "Summer"]
        on_80 = mirror.environment | {"COLUMNS": "80", "NO_COLOR": "1"}
        shown = without_colours((await run_on_terminal("vouchers", settings=on_80, directory=tmp_path)).stdout)
        assert max(map(len, shown.splitlines())) <= 80
        assert {summer["id"], winter["id"], "Summer"} <= set(shown.split())
        on_40 = on_80 | {"COLUMNS": "40"}
        assert without_colours((await run_on_terminal("vouchers", settings=on_40, directory=tmp_path)).stdout) == shown


@pytest.mark.long
async def test_deleted_vouchers_are_left_out_unless_they_are_asked_for(cli: Cli, mirror: Mirror) -> None:
    async with mirror.opened():
        assert (await cli("once", settings=mirror.environment)).code == 0
        await mirror.execute("UPDATE mews.vouchers SET is_active = false")
        assert (await cli("vouchers", settings=mirror.environment)).stdout == ""
        assert "Summer" in (await cli("vouchers", "--deleted", settings=mirror.environment)).stdout
