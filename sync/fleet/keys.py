"""Which connections a replica can open: each is left to those that have the keys to its tokens.

A key is known by a name that tells nothing of it. Which one a token was encrypted with is not written down, since a
release before would write another token and leave that as it was; the token's signature tells.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from functools import cache
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.tables import connections
from sync.fleet.assignment import STORED, Member, Needs, Owned
from sync.fleet.tokens import NAME_OF_KEY, TokenBox, TokenOf, no_key_reads
from sync.logger import structlog

UNKNOWN_KEY = "a key that this replica has not"

log = structlog.get_logger()


def member(process: UUID, takes: Collection[str], keys: Collection[str]) -> Member:
    """A replica by what it tells that it has; one of a release before names no key, and takes all that is stored."""
    is_before = STORED in takes and not any(one.startswith(NAME_OF_KEY) for one in takes)
    return Member(process, frozenset(takes) | (frozenset(keys) if is_before else frozenset()))


async def find_needs(
    tx: AsyncConnection, box: TokenBox, found: Iterable[Owned], before: Iterable[Owned]
) -> Sequence[Owned]:
    """The connections with the keys that each needs, as far as `box` has them.

    Tokens that are as they were `before` are not read again: it takes some 20 µs of each, for each key.
    """
    all_found = list(found)
    if not box.key_names:
        return all_found
    known = {(one.name, one.version): one.needs for one in before}
    new = [one.name for one in all_found if STORED in one.needs and (one.name, one.version) not in known]
    needs = await _load_needs(tx, box, new) if new else {}
    return [
        one
        if STORED not in one.needs
        else replace(one, needs=needs.get(one.name) or known.get((one.name, one.version), one.needs))
        for one in all_found
    ]


async def _load_needs(tx: AsyncConnection, box: TokenBox, names: Sequence[str]) -> dict[str, Needs]:
    columns = connections.c
    tokens = select(columns.name, columns.access_token, columns.client_token).where(columns.name.in_(names))
    found: dict[str, Needs] = {}
    for name, *given in await tx.execute(tokens):
        keys = box.keys_of(one for one in given if one is not None)
        found[name] = _needs(*sorted({UNKNOWN_KEY} if keys is None else keys))
    return found


@cache
def _needs(*keys: str) -> Needs:
    """The same object for all that need the same: there are thousands."""
    return frozenset({STORED, *keys})


class UnopenedWatch:
    """Which connections nobody opens: without an owner for a while, and their keys unknown here."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._unknown: set[str] = set()
        self._since_s: dict[str, float] = {}
        self._told: set[str] = set()

    def observe(self, found: Iterable[Owned], free_owners: Collection[UUID], now_s: float) -> list[str]:
        """Those of whom it is to be told that nobody opens them."""
        unknown = [one for one in found if UNKNOWN_KEY in one.needs]
        self._log({one.name for one in unknown})
        free = {one.name for one in unknown if one.owner is None or one.owner in free_owners}
        self._since_s = {name: self._since_s.get(name, now_s) for name in free}
        self._told &= free
        return [name for name in free - self._told if now_s - self._since_s[name] >= self._after_s]

    def told(self, name: str) -> None:
        """Note that it was told of one."""
        self._told.add(name)

    def _log(self, unknown: set[str]) -> None:
        if new := unknown - self._unknown:
            log.warning("left_to_others", connections=len(unknown), error=why_unopened(min(new)))
        self._unknown = unknown


def why_unopened(name: str) -> str:
    """Why a connection is opened by nobody who has no more keys than this replica."""
    return no_key_reads(TokenOf(name, "", "access"))
