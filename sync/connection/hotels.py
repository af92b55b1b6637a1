"""Whether tokens are for the hotels that a connection's mirror is of: a pure decision."""

import hashlib
from collections.abc import Mapping
from uuid import UUID

from sync.core.plurals import plural
from sync.core.printable import printable
from sync.mews.address import same_address

MAX_NAMED = 3


def fingerprint(platform_address: str, access_token: str) -> bytes:
    """By which a token is known again where it was accepted before; it does not tell the token."""
    return hashlib.sha256(f"{same_address(platform_address)}\n{access_token}".encode()).digest()


def why_foreign(
    platform_address: str,
    enterprises: Mapping[UUID, str],
    *,
    known_address: str | None,
    known_enterprises: Mapping[UUID, str],
    stored_as: str | None = None,
) -> str | None:
    """Why this is not the API, or not a token, of the hotels (ids and names) that are known; None if it is.

    One hotel in common is enough: a portfolio gains and loses some, and a token is replaced by another one. A token
    that sees none at all says nothing. Ids are unique among the vendor's customers, but not between its environments,
    since one may be a copy of another: so the address counts too. `stored_as`: the name of a connection whose tokens
    are not the environment's.
    """
    who = "this database" if stored_as is None else f"connection {stored_as}"
    address, token = (
        ("MEWS_PLATFORM_ADDRESS", "MEWS_ACCESS_TOKEN") if stored_as is None else ("its address", "its token")
    )
    if known_address is not None and same_address(known_address) != same_address(platform_address):
        return f"{who} mirrors {known_address}, and {address} is {platform_address}"
    if not known_enterprises or not enterprises or known_enterprises.keys() & enterprises.keys():
        return None
    return f"{who} mirrors {_named(known_enterprises)}, and {token} is for {_named(enterprises)}"


def _named(enterprises: Mapping[UUID, str]) -> str:
    names = sorted(map(printable, enterprises.values()))
    others = f" and {plural(len(names) - MAX_NAMED, 'other')}" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + others
