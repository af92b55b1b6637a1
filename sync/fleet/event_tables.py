"""What the vendor tells of integrations, with its meaning."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    func,
    text,
)

from sync.postgres.metadata import TIMESTAMP, metadata

integration_events = Table(
    "integration_events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Number of the event."),
    Column(
        "digest", LargeBinary, nullable=False, unique=True, comment="SHA-256 of what was sent: the same is kept once."
    ),
    Column("action", Text, nullable=False, comment="The vendor's name of what happened."),
    Column("integration_id", Text, nullable=False, comment="The vendor's name of the integration."),
    Column("enterprise_name", Text, comment="Name of the hotel, where it was told."),
    Column("access_token", LargeBinary, comment="The token that came with it, encrypted; null once it ended."),
    Column("received_at", TIMESTAMP, nullable=False, server_default=func.now(), comment="When it was received."),
    Column("attempts", Integer, nullable=False, server_default="0", comment="How often it was tried."),
    Column("next_attempt_at", TIMESTAMP, nullable=False, server_default=func.now(), comment="When it is tried next."),
    Column("finished_at", TIMESTAMP, comment="When it was done with; null: it waits."),
    Column("outcome", Text, comment="What came of it, or why it is tried again."),
    CheckConstraint("finished_at IS NULL OR access_token IS NULL", name="no_needless_token"),
    Index("integration_events_waiting_idx", "next_attempt_at", postgresql_where=text("finished_at IS NULL")),
    schema="sync",
    comment="What the vendor told of integrations: a hint, which counts once a call has verified it.",
)
