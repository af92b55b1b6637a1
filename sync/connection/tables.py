"""The tables of connections and of the hotels that they see, with their meaning."""

from sqlalchemy import CheckConstraint, Column, LargeBinary, Table, Text, func
from sqlalchemy.dialects.postgresql import UUID

from sync.postgres.metadata import TIMESTAMP, metadata, mirrored_columns

enterprises = Table(
    "enterprises",
    metadata,
    Column("id", UUID, primary_key=True, comment="The API's Id."),
    Column("name", Text, nullable=False, comment="Name of the hotel."),
    Column("time_zone", Text, comment="IANA name of the hotel's time zone."),
    *mirrored_columns(),
    schema="mews",
    comment="Hotels (the API's enterprises) that a connection can see.",
)

connections = Table(
    "connections",
    metadata,
    Column("name", Text, primary_key=True, comment="Name of the connection."),
    Column("state", Text, nullable=False, comment="ok, or failing."),
    Column("state_since", TIMESTAMP, nullable=False, server_default=func.now(), comment="Since when."),
    Column("error", Text, comment="Why it is failing."),
    Column("heartbeat_at", TIMESTAMP, comment="When a daemon last reported for it."),
    Column("caught_up_as_of", TIMESTAMP, comment="Start, by this database's clock, of the last pull that caught up."),
    Column("caught_up_through", TIMESTAMP, comment="The server's instant that this pull reached."),
    Column("platform_address", Text, comment="The API that it mirrors."),
    Column("token_fingerprint", LargeBinary, comment="SHA-256 of that address and the token last seen to fit."),
    CheckConstraint("state IN ('ok', 'failing')", name="state"),
    schema="sync",
    comment="How each connection is doing.",
)
