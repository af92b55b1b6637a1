"""Where a server listens, as a setting says it."""

import pytest

from sync.core.bind_address import BindAddress, is_loopback, read_bind_address


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("127.0.0.1:8321", BindAddress("127.0.0.1", 8321)),
        ("[::1]:0", BindAddress("::1", 0)),
        ("sync.example:65535", BindAddress("sync.example", 65535)),
    ],
)
def test_an_address_is_read_and_written_alike(given: str, expected: BindAddress) -> None:
    assert read_bind_address(given) == expected
    assert str(expected) == given


@pytest.mark.parametrize("given", ["a b:1", "a@b:1", "[]:1", "[a]b:1", "[[::1]]:1", "\u2460:1", "a\x00:1", "//a:1"])
def test_a_host_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="give "):
        read_bind_address(given)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.255.0.1", True), ("::1", True), ("LOCALHOST.", True),
     ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("localhost.example", False), ("", False)],
)  # fmt: skip
def test_loopback_is_what_always_means_this_machine(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
