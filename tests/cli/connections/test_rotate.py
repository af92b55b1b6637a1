"""A new token counts once the API has taken it and shown the same hotels for it; until then the one before stays."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sync.fleet.tokens import TokenBox, TokenOf
from tests.cli.conftest import Cli
from tests.migrations.helpers import execute, query
from tests.support.mirror import Mirror
from tests.support.process import Ended
from tests.support.two_tokens import KEY

TOKENS = {"first": "the-first-token", "new": "the-new-token", "foreign": "the-foreign-token", "refused": "no-token"}
Rotate = Callable[..., Awaitable[Ended]]


@pytest.fixture
def rotate(cli: Cli, mirror: Mirror, tmp_path: Path) -> Rotate:
    """Gives a connection that has mirrored its hotel another token."""
    for name, hotel in {
        "first": mirror.hotel,
        "new": mirror.hotel,
        "foreign": mirror.world.add_enterprise("B"),
    }.items():
        mirror.world.add_token(TOKENS[name], name=name, enterprise_ids=[hotel.id])
    for name, token in TOKENS.items():
        (tmp_path / name).write_text(token, encoding="utf-8")

    async def run(to: str, *more: str) -> Ended:
        settings = mirror.environment | {"SYNC_SECRET_KEY": KEY}
        async with mirror.served():
            settings["MEWS_PLATFORM_ADDRESS"] = mirror.address
            del settings["MEWS_ACCESS_TOKEN"]
            added = await cli("connections", "add", "lake", "--access-token-file", "first", settings=settings)
            assert added.code == 0, added
            cycle = await cli("once", settings=settings)
            assert cycle.code == 0, cycle
            return await cli("connections", "rotate", "lake", "--access-token-file", to, *more, settings=settings)

    return run


def stored_token(mirror: Mirror) -> str:
    ((ciphertext,),) = query(mirror.database_url, "SELECT access_token FROM sync.connections WHERE name = 'lake'")
    assert isinstance(ciphertext, bytes)
    return TokenBox([KEY]).decrypt(ciphertext, TokenOf("lake", mirror.address, "access"))


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("to", "more", "code", "told", "stays"),
    [
        ("new", [], 0, "sees 1 hotel;", False),
        ("refused", [], 1, "401", True),
        ("foreign", [], 1, "does not see Hotel A, so the one before stays", True),
        ("foreign", ["--accept-enterprises"], 0, "sees 1 hotel;", False),
    ],
)
async def test_a_new_token_counts_if_it_sees_the_same_hotels(  # noqa: PLR0917 - a case each
    mirror: Mirror, rotate: Rotate, to: str, more: list[str], code: int, told: str, stays: bool
) -> None:
    ended = await rotate(to, *more)
    assert (ended.code, told in ended.stdout + ended.stderr) == (code, True), ended
    assert stored_token(mirror) == TOKENS["first" if stays else to]
    assert not [token for token in TOKENS.values() if token in ended.stdout + ended.stderr]


@pytest.mark.long
async def test_a_new_token_is_sent_to_no_address_that_somebody_has_put_into_the_database(
    cli: Cli, mirror: Mirror, tmp_path: Path
) -> None:
    (tmp_path / "first").write_text(TOKENS["first"], encoding="utf-8")
    (tmp_path / "new").write_text(TOKENS["new"], encoding="utf-8")
    mirror.world.add_token(TOKENS["new"], name="new", enterprise_ids=[mirror.hotel.id])
    async with mirror.served(), mirror.simulator.serve() as elsewhere:
        settings = mirror.environment | {"SYNC_SECRET_KEY": KEY, "MEWS_PLATFORM_ADDRESS": mirror.address}
        added = await cli("connections", "add", "lake", "--access-token-file", "first", settings=settings)
        assert added.code == 0, added
        execute(mirror.database_url, f"UPDATE sync.connections SET platform_address = '{elsewhere}'")
        rotate = ("connections", "rotate", "lake", "--access-token-file", "new")
        refused = await cli(*rotate, settings=settings)
        assert (refused.code, f"first see that {elsewhere} is its address" in refused.stderr) == (2, True), refused
        assert not mirror.simulator.requests
        meant = await cli(*rotate, settings=settings | {"MEWS_PLATFORM_ADDRESS": elsewhere})
        assert meant.code == 0, meant
