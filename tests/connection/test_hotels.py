"""Tokens are another hotel's where the address differs, or where no hotel is the same."""

from uuid import UUID

import pytest

from sync.connection.hotels import fingerprint, why_foreign

API, OTHER_API = "https://api.mews.com", "https://api.mews-demo.com"
A, B, C = ({UUID(int=number): f"Hotel {name}"} for number, name in enumerate("ABC"))
NONE: dict[UUID, str] = {}


@pytest.mark.parametrize(
    ("address", "seen", "known_address", "known"),
    [
        (API, A, None, NONE),
        (API, A, API, A),
        (API, A | B, API, A),
        (API, A, API, A | B),
        (API, B | C, API, A | B),
        (API, NONE, API, A),
        (API, A, None, A),
    ],
    ids=["nothing known", "same", "a portfolio with it", "one of its", "one in common", "sees none", "made before"],
)
def test_it_is_the_same(address: str, seen: dict[UUID, str], known_address: str | None, known: dict[UUID, str]) -> None:
    assert why_foreign(address, seen, known_address=known_address, known_enterprises=known) is None


@pytest.mark.parametrize(
    ("address", "seen", "known_address", "known", "words"),
    [
        (API, B, API, A, "mirrors Hotel A, and MEWS_ACCESS_TOKEN is for Hotel B"),
        (API, B | C, None, A, "is for Hotel B, Hotel C"),
        (OTHER_API, A, API, A, f"mirrors {API}, and MEWS_PLATFORM_ADDRESS is {OTHER_API}"),
        (OTHER_API, NONE, API, NONE, f"mirrors {API}"),
    ],
)
def test_it_is_another(
    address: str, seen: dict[UUID, str], known_address: str | None, known: dict[UUID, str], words: str
) -> None:
    foreign = why_foreign(address, seen, known_address=known_address, known_enterprises=known)
    assert foreign is not None
    assert words in foreign


def test_of_many_hotels_a_few_are_named() -> None:
    many = {UUID(int=number): f"Hotel {number}" for number in range(10, 20)}
    assert "Hotel 10, Hotel 11, Hotel 12 and 7 others" in (
        why_foreign(API, A, known_address=None, known_enterprises=many) or ""
    )


def test_a_fingerprint_is_of_both() -> None:
    one = fingerprint(API, "token")
    assert one == fingerprint(API, "token")
    assert len({one, fingerprint(API, "another"), fingerprint(OTHER_API, "token")}) == 3
    assert b"token" not in one
