"""The table of runs, with its meaning."""

from sqlalchemy import BigInteger, Column, Identity, Index, Table, Text, func
from sqlalchemy.dialects.postgresql import JSONB

from sync.postgres.metadata import TIMESTAMP, metadata

runs = Table(
    "runs",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Number of the run."),
    Column("connection", Text, nullable=False, comment="The connection."),
    Column("kind", Text, nullable=False, comment="discovery, pull, push, settle or audit."),
    Column("began_at", TIMESTAMP, nullable=False, comment="When it began; a push: when the one before was noted."),
    Column("finished_at", TIMESTAMP, nullable=False, server_default=func.clock_timestamp(), comment="When it ended."),
    Column("counts", JSONB, nullable=False, comment="What it read, wrote and found, by name."),
    Column("error", Text, comment="Why it failed, or what of it did."),
    Index(None, "connection", "id"),
    Index(None, "finished_at"),
    schema="sync",
    comment="Runs that changed something or failed, kept for 30 days; one that fails like the last leaves none.",
)
