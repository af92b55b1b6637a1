"""What the daemon notes of its runs and of what failed, with its meaning."""

from sqlalchemy import BigInteger, Column, Identity, Index, Integer, Table, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB

from sync.postgres.metadata import TIMESTAMP, metadata

runs = Table(
    "runs",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Number of the run."),
    Column("connection", Text, nullable=False, comment="The connection."),
    Column("kind", Text, nullable=False, comment="discovery, pull, push, settle or audit."),
    Column("began_at", TIMESTAMP, nullable=False, comment="When it began; of pushes noted together, the first."),
    Column("finished_at", TIMESTAMP, nullable=False, server_default=func.clock_timestamp(), comment="When it ended."),
    Column("counts", JSONB, nullable=False, comment="What it read, wrote and found, by name."),
    Column("error", Text, comment="Why it failed, or what of it did."),
    Index(None, "connection", "id"),
    Index(None, "finished_at"),
    schema="sync",
    comment="Runs that changed something or failed, kept for 30 days; one that fails like the last leaves none.",
)

outages = Table(
    "outages",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Number of the outage."),
    Column("connection", Text, nullable=False, comment="The connection."),
    Column("began_at", TIMESTAMP, nullable=False, server_default=func.now(), comment="When it began to fail."),
    Column("ended_at", TIMESTAMP, comment="When it worked again; null: it fails still."),
    Column("error", Text, nullable=False, comment="Why it failed, by its last cause."),
    Index("outages_open_idx", "connection", unique=True, postgresql_where=text("ended_at IS NULL")),
    Index(None, "connection", "id"),
    schema="sync",
    comment="From when to when each connection failed, kept for 90 days.",
)

request_failures = Table(
    "request_failures",
    metadata,
    Column("connection", Text, primary_key=True, comment="The connection."),
    Column("operation", Text, primary_key=True, comment="The API's operation."),
    Column("problem", Text, primary_key=True, comment="What went wrong, with the HTTP status if there was one."),
    Column("count", BigInteger, nullable=False, comment="How often, since first_at."),
    Column("first_at", TIMESTAMP, nullable=False, server_default=func.now(), comment="When it was first noted."),
    Column("last_at", TIMESTAMP, nullable=False, server_default=func.now(), comment="When it was last noted."),
    Column("request_id", Text, comment="The API's name of the last such call, where it gave one."),
    schema="sync",
    comment="Calls of the API that failed, by operation and problem, forgotten 30 days after the last.",
)

samples = Table(
    "samples",
    metadata,
    Column("connection", Text, primary_key=True, comment="The connection."),
    Column("at", TIMESTAMP, primary_key=True, comment="End of the five minutes that were counted."),
    Column("behind_since", TIMESTAMP, comment="Complete through this instant and no further; null: up to date."),
    Column("waiting", Integer, nullable=False, comment="Changes that wait or are under way, counted to 10,000."),
    Column("attention", Integer, nullable=False, comment="Changes held or failed, counted to 10,000."),
    Column("drift", BigInteger, nullable=False, comment="Codes that the last audits found wrong."),
    Column("codes", BigInteger, nullable=False, comment="Codes written in these minutes."),
    Column("requests", BigInteger, nullable=False, comment="Calls of the API in these minutes."),
    Column("failed", BigInteger, nullable=False, comment="Those of them that failed."),
    Index(None, "at"),
    schema="sync",
    comment="How each connection did, for charts: a row where something differs from the one before.",
)
