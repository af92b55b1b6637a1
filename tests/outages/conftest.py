"""The mirror of the flows' tests: open, and its client has broken no rule of the API at the end."""

from tests.flows.conftest import mirror

__all__ = ["mirror"]
