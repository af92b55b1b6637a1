"""How a session reaches its server is told with what that keeps from nobody."""

import pytest

from sync.postgres.link import describe_way


@pytest.mark.parametrize(
    ("address", "has_tls", "mode", "told"),
    [
        ("10.0.0.5", False, "prefer", "can read codes"),
        ("10.0.0.5", True, "require", "only sslmode=verify-full"),
        ("10.0.0.5", True, "verify-full", "over TLS, as the certificate's own name"),
        ("::1", False, "prefer", "within this machine"),
    ],
)
def test_who_may_read_along_is_told(address: str, has_tls: bool, mode: str, told: str) -> None:
    assert told in describe_way(address, has_tls=has_tls, mode=mode)
