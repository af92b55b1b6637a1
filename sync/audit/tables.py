"""The audit's tables, with their meaning."""

from sqlalchemy import BigInteger, Boolean, Column, Identity, Index, Table, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY, UUID

from sync.postgres.metadata import IS_UNLOGGED, TIMESTAMP, metadata


def _count(name: str, comment: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0", comment=comment)


audits = Table(
    "audits",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Number of the audit."),
    Column("connection", Text, nullable=False, comment="The connection."),
    Column("began_at", TIMESTAMP, nullable=False, server_default=func.now(), comment="When it began."),
    Column("finished_at", TIMESTAMP, comment="When it ended; null: it goes on."),
    Column("owner", UUID, nullable=False, comment="Who carries it out."),
    Column("alive_until", TIMESTAMP, nullable=False, comment="After this its owner counts as dead."),
    Column(
        "owner_process",
        Text,
        comment="The owner's name, and which process that is of which machine; null, or another's name: not known.",
    ),
    Column("braked", Text, comment="Why it changed nothing, although it found drift."),
    Index(None, "connection", "id"),
    Index("audits_open_idx", "connection", unique=True, postgresql_where=text("finished_at IS NULL")),
    schema="sync",
    comment="Full comparisons of the mirror with the API.",
)

voucher_audits = Table(
    "voucher_audits",
    metadata,
    Column("voucher_id", UUID, primary_key=True, comment="The voucher."),
    Column("connection", Text, nullable=False, comment="The connection."),
    Column("audit_id", BigInteger, nullable=False, comment="The audit that last compared it."),
    Column("began_at", TIMESTAMP, nullable=False, comment="When its comparison began."),
    Column("settled_before", TIMESTAMP, comment="Changes before this instant of the API were judged."),
    Column("finished_at", TIMESTAMP, comment="When what was found was confirmed; null: not yet."),
    _count("equal", "Codes that are the same on both sides."),
    _count("differing", "Codes that differ in a column."),
    _count("only_here", "Codes that the API no longer has."),
    _count("only_there", "Codes that the mirror did not have."),
    _count("recent", "Codes that changed too lately to be judged."),
    _count("refused", "Codes that something on the table keeps from being stored as they are."),
    _count("repaired", "Of those that drifted, how many were repaired."),
    Column("error", Text, comment="Why it could not be compared."),
    schema="sync",
    comment="The last comparison of each voucher's codes with the API's.",
)

audit_pages = Table(
    "audit_pages",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Number of the page."),
    Column("connection", Text, nullable=False, comment="The connection."),
    Column("listing", UUID, nullable=False, comment="The listing of some vouchers together that it is of."),
    Column("code_ids", ARRAY(UUID), nullable=False, comment="The codes on it."),
    Index(None, "listing"),
    schema="sync",
    comment="Codes that the API lists of the vouchers that an audit is comparing.",
    # After a crash of the database the comparison of these vouchers begins anew.
    prefixes=["UNLOGGED"],
    info={IS_UNLOGGED: True},
)

audit_seen = Table(
    "audit_seen",
    metadata,
    Column("connection", Text, primary_key=True, comment="The connection."),
    Column("code_id", UUID, primary_key=True, comment="A code that the API lists."),
    schema="sync",
    comment="As sync.audit_pages, for the release before that has it; goes with the one after.",
    prefixes=["UNLOGGED"],
    info={IS_UNLOGGED: True},
)

audit_candidates = Table(
    "audit_candidates",
    metadata,
    Column("connection", Text, primary_key=True, comment="The connection."),
    Column("voucher_id", UUID, primary_key=True, comment="The voucher."),
    Column("code_id", UUID, primary_key=True, comment="A code that seems to have drifted."),
    Column("is_listed", Boolean, nullable=False, comment="Whether the API listed it."),
    schema="sync",
    comment="Codes that an audit looks at once more before it calls them drifted.",
)
