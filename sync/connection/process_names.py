"""The names that one process has in the ledgers of its calls: its own, and others that begin alike."""

from uuid import UUID, uuid4

OWN_BITS = 64
"""Of a name, by which it differs from the others of its process."""


def name_of_process(name: UUID) -> int:
    """What all names of a process begin with, and no other's do."""
    return name.int >> OWN_BITS


def another_name(process: UUID) -> UUID:
    """One more name of a process, which it had never before."""
    return UUID(int=name_of_process(process) << OWN_BITS | uuid4().int & ((1 << OWN_BITS) - 1))
