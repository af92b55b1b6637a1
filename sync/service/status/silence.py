"""The words for daemons that are silent while others work, or nobody does."""

from sync.service.status.facts import Overview
from sync.service.status.words import ago


def silent(overview: Overview) -> str:
    """Which daemons are silent while others work."""
    if not overview.gone:
        return left_behind(overview)
    one, *others = overview.gone
    more = f", and {len(others):,} more" if others else ""
    gone = f"Silent: daemon {one.name}, last heard of {ago(one.heartbeat_age_s)}{more}."
    return f"{gone} {left_behind(overview)}".rstrip()


def left_behind(overview: Overview) -> str:
    """Of the silent daemons of older releases the last one that was heard of, and how many more there are."""
    if not overview.left_behind:
        return ""
    one, *others = overview.left_behind
    more = f", and {len(others):,} more" if others else ""
    return (
        f"Silent, and of an older release than this database: daemon {one.name} (voucher-sync {one.version}, schema "
        f"{one.revision}, here {overview.revision}), last heard of {ago(one.heartbeat_age_s)}{more}."
    )
