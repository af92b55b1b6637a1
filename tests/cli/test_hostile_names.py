"""What hotels, services and vouchers are called reaches no terminal as anything but text: it comes from the API."""

import re
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.outbox.helpers import without_colours
from tests.support.mirror import Mirror
from tests.support.process import run_on_terminal

HOSTILE = "\x1b]0;title\x07\x1b[2J\x9b31mzyx over\u202egnp"
MOVES = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.mark.long
async def test_a_name_moves_no_cursor(cli: Cli, mirror: Mirror, tmp_path: Path) -> None:
    hotel = mirror.world.add_enterprise(HOSTILE)
    gone = mirror.world.add_voucher(mirror.world.add_service(hotel.id, HOSTILE).id, HOSTILE)
    mirror.world.add_service(hotel.id, HOSTILE, carries_vouchers=False)
    for name in ("of-it", "of-another"):
        seen = hotel if name == "of-it" else mirror.hotel
        mirror.world.add_token(name, name=name, enterprise_ids=[seen.id])
    async with mirror.opened():
        settings = mirror.environment | {"MEWS_ACCESS_TOKEN": "of-it", "NO_COLOR": "1"}
        assert (await cli("once", settings=settings)).code == 0
        mirror.world.deactivate_voucher(gone.id)
        assert (await cli("once", settings=settings)).code == 0
        of_another = settings | {"MEWS_ACCESS_TOKEN": "of-another"}
        told = [
            await run_on_terminal(*words, settings=given, directory=tmp_path)
            for words, given in (
                (("vouchers", "--deleted"), settings),
                (("outbox", "add", "NEW", "--voucher", str(gone.id)), settings),
                (("outbox", "export", "--status", "pending"), settings),
                (("status",), settings),
                (("check",), of_another),
                (("once",), of_another),
            )
        ]
    assert [(one.stdout.count("zyx"), MOVES.findall(without_colours(one.stdout))) for one in told] == [
        (3, []), (1, []), (1, []), (1, []), (1, []), (2, [])
    ]  # fmt: skip
