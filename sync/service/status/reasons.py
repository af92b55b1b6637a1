"""Why changes are refused or stuck, and records left out, of the first of many connections: each is told in a line."""

from dataclasses import replace
from textwrap import shorten

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.service.status.changes import load_changes
from sync.service.status.detail_facts import Details
from sync.service.status.details import load_rejected
from sync.service.status.facts import ConnectionStatus, Overview
from sync.service.status.verdict import judge_connection

EXPLAINED = 50
"""Connections whose reasons are told, the most urgent first: what is looked at stays bounded, however many have any."""
LOOKED_AT = 20
"""Changes of each sort, and records, that are looked at for it, of each connection."""
LONGEST = 120


async def with_reasons(tx: AsyncConnection, overview: Overview) -> Overview:
    """The same, with the leading reasons in the details of those that have none yet. Raises `DatabaseError`."""
    names = [one.name for one in _first(overview)]
    if not names:
        return overview
    the_only_one = overview.connections[0].name if len(overview.connections) == 1 else None
    changes = await load_changes(tx, names, the_only_one, looked_at=LOOKED_AT)
    rejected = await load_rejected(tx, names, looked_at=LOOKED_AT)
    explained = {
        name: Details(
            failed=[replace(group, reason=_brief(group.reason)) for group in changes[name].get("failed", [])],
            waiting=changes[name].get("waiting", []),
            rejected_because=[replace(group, reason=_brief(group.reason)) for group in rejected[name]],
        )
        for name in names
    }
    connections = [replace(one, details=explained.get(one.name, one.details)) for one in overview.connections]
    return replace(overview, connections=connections)


def _first(overview: Overview) -> list[ConnectionStatus]:
    """Those that are told of first, of those that have anything to explain."""
    unexplained = (one for one in overview.connections if one.details == Details() and _has_reasons(one))
    return sorted(unexplained, key=lambda one: (-judge_connection(one, overview).level, one.name))[:EXPLAINED]


def _has_reasons(one: ConnectionStatus) -> bool:
    return bool(one.backlog.count("failed") or one.backlog.stuck or one.mirror.rejected_records)


def _brief(reason: str) -> str:
    return shorten(reason, LONGEST)
