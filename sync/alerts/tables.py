"""The table of what somebody is told of, with its meaning."""

from sqlalchemy import BigInteger, Column, Table, Text

from sync.postgres.metadata import TIMESTAMP, metadata

alerts = Table(
    "alerts",
    metadata,
    Column("connection", Text, primary_key=True, comment="The connection."),
    Column("kind", Text, primary_key=True, comment="What holds of it, or held."),
    Column("level", BigInteger, nullable=False, comment="How much of it, or which; 0: it holds no longer."),
    Column("summary", Text, nullable=False, comment="In a sentence, without any code's value."),
    Column("since", TIMESTAMP, nullable=False, comment="Since when it is at this level."),
    Column("told_level", BigInteger, nullable=False, server_default="0", comment="The level last told."),
    Column("told_at", TIMESTAMP, comment="When that was."),
    Column("claimed_until", TIMESTAMP, comment="Until then one process tells it, and no other."),
    schema="sync",
    comment="What somebody is told of by the webhook, and what was told last.",
)
