"""An address is the same however it is written, and another one leads elsewhere."""

import pytest

from sync.connection.hotels import fingerprint, why_foreign
from sync.mews.address import same_address
from sync.mews.platform_cap import PlatformLimits
from sync.mews.transport import HttpPools

SAME = [
    "https://api.mews.com/",
    "https://API.Mews.com",
    "HTTPS://api.mews.com",
    "https://api.mews.com:443",
    "https://api.mews.com:0443/",
    "https://api.mews.com:",
    "https://api.mews.com.",
]
OTHERS = [
    "https://api.mews-demo.com",
    "https://api.mews.com:8443",
    "http://api.mews.com",
    "http://localhost:443",
    "http://localhost",
    "http://[::1]:8080",
    "http://[::1]",
    "https://api.mews.com:port",
]


@pytest.mark.parametrize("written", SAME)
async def test_however_an_address_is_written_it_has_one_cap_and_a_token_one_budget(written: str) -> None:
    usual = "https://api.mews.com"
    pools = HttpPools(2**20, PlatformLimits(10, 100))
    assert pools.of(written) is pools.of(usual)
    assert [*pools.caps] == [usual]
    await pools.aclose()
    assert fingerprint(written, "token") == fingerprint(usual, "token")
    assert why_foreign(written, {}, known_address=usual, known_enterprises={}) is None


def test_another_address_stays_another() -> None:
    assert len({same_address(one) for one in [*OTHERS, *SAME]}) == len(OTHERS) + 1


@pytest.mark.parametrize("usual", ["https://api.mews.com", *OTHERS])
def test_one_that_is_written_so_stays_as_it_is(usual: str) -> None:
    assert same_address(usual) == usual
