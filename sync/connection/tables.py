"""The tables of connections and of the hotels that they see, with their meaning."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    column,
    func,
    table,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, UUID

from sync.postgres.metadata import BYTEWISE, TIMESTAMP, metadata, mirrored_columns

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
    Column("heartbeat_at", TIMESTAMP, comment="When a daemon last reported for it, as far as it is noted here."),
    Column(
        "caught_up_as_of",
        TIMESTAMP,
        comment="Start, by this database's clock, of the last pull that caught up and is noted here.",
    ),
    Column(
        "caught_up_through",
        TIMESTAMP,
        comment="The server's instant that this pull reached; see sync.connection_freshness.",
    ),
    Column("platform_address", Text, comment="The API that it mirrors."),
    Column("token_fingerprint", LargeBinary, comment="SHA-256 of that address and the token last seen to fit."),
    Column("error_kind", Text, comment="Which kind of error it is, by its name."),
    Column(
        "origin",
        Text,
        nullable=False,
        server_default="environment",
        comment="Where its tokens come from: environment, or command or webhook, by which they were stored here.",
    ),
    Column("access_token", LargeBinary, comment="The access token, encrypted; null: the environment has it."),
    Column("client_token", LargeBinary, comment="The client token, encrypted; null: the environment's."),
    Column("paused_at", TIMESTAMP, comment="Since when nothing is read or sent for it; null: it is at work."),
    Column("paused_because", Text, comment="Why."),
    Column("removed_at", TIMESTAMP, comment="When it was removed; its tokens are gone, and its rows may be kept."),
    Column("added_at", TIMESTAMP, comment="When it was last added."),
    Column("integration_id", Text, comment="The vendor's name of the integration that it came with."),
    Column("owner", UUID, comment="The process that works for it, as in sync.daemons."),
    Column("epoch", BigInteger, nullable=False, server_default="0", comment="Grows whenever another process takes it."),
    Column("place", Integer, comment="Its place among its owner's in sync.caught_up; null: it has none."),
    Column(
        "enterprise_ids",
        ARRAY(UUID),
        comment="The hotels that its token saw when they were last discovered; null: never yet.",
    ),
    Column(
        "vouchers_looked_for_as_of",
        TIMESTAMP,
        comment="Start of its last discovery that looked for vouchers that changes name and nobody knew.",
    ),
    Column(
        "codes_looked_for_as_of",
        TIMESTAMP,
        comment="Start of its last pull that looked for codes that changes name and nobody knew.",
    ),
    CheckConstraint("state IN ('ok', 'failing')", name="state"),
    CheckConstraint("origin IN ('environment', 'command', 'webhook')", name="origin"),
    CheckConstraint("char_length(name) BETWEEN 1 AND 100", name="name"),
    CheckConstraint(
        "origin = 'environment' OR removed_at IS NOT NULL "
        "OR platform_address IS NOT NULL AND access_token IS NOT NULL AND added_at IS NOT NULL",
        name="stored_is_whole",
    ),
    CheckConstraint(
        "(origin <> 'environment' AND removed_at IS NULL) OR access_token IS NULL AND client_token IS NULL",
        name="no_needless_token",
    ),
    CheckConstraint("paused_because IS NULL OR paused_at IS NOT NULL", name="pause"),
    CheckConstraint("epoch >= 0", name="epoch"),
    Index(
        "connections_integration_idx",
        "platform_address",
        "integration_id",
        unique=True,
        postgresql_ops={"platform_address": BYTEWISE, "integration_id": BYTEWISE},
        postgresql_where=text("integration_id IS NOT NULL"),
    ),
    schema="sync",
    comment="The connections: where their tokens are, who works for each, and how it is doing.",
)

IS_AT_WORK = """
EXISTS (SELECT FROM sync.connections AS known
        WHERE known.name = {of}.connection AND known.removed_at IS NULL AND known.paused_at IS NULL)
"""
"""Whether a row's connection is one that is worked for, in SQL; `of`: how the row is called."""
freshness = table(
    "connection_freshness",
    column("name", Text),
    column("heartbeat_at", TIMESTAMP),
    column("caught_up_as_of", TIMESTAMP),
    column("caught_up_through", TIMESTAMP),
    schema="sync",
)
"""The view of what counts of each connection: its replica's word or its row's, whichever is the later one."""
CONNECTION_TRIGGERS = ("tell_of_another", "tell_of_change")
CONNECTIONS_CHANNEL = "voucher_sync_connections"
"""What is notified when the set of connections has changed."""

incarnation = Table(
    "incarnation",
    metadata,
    Column("only", Boolean, primary_key=True, server_default=true(), comment="There is one row."),
    Column("id", UUID, comment="The name that whoever works with this database knows it by."),
    Column("position", BigInteger, nullable=False, server_default="0", comment="Only grows, as work goes on."),
    Column("system_identifier", Text, comment="The server that it was last worked with on, by its own name."),
    Column("database_oid", BigInteger, comment="Number of the database there."),
    Column("table_oid", BigInteger, comment="Number of this table there: a restored dump gets another."),
    Column("timeline", BigInteger, comment="Timeline of that server: a promoted standby begins a new one."),
    Column("started_at", TIMESTAMP, comment="When that server was started."),
    Column("gap", Text, comment="copy or behind: how it differs from what was known; null: adopted."),
    Column("gap_at", TIMESTAMP, comment="When that was noticed."),
    Column("gap_through", BigInteger, comment="The last change that was queued by then."),
    Column("moved_by", UUID, comment="Name of the state directory of whoever moved the position last."),
    Column(
        "unvouched_from",
        BigInteger,
        comment="Of the release before: this one only clears it, and it goes with the one after.",
    ),
    Column("moved_to", BigInteger, comment="Where to; a release before this column leaves it behind."),
    Column("outbox_oid", BigInteger, comment="Number of the outbox there: restored by itself, it gets another."),
    Column(
        "emptied_at",
        TIMESTAMP,
        comment="When the outbox was emptied by TRUNCATE, or was empty before its first work: what was queued before "
        "comes from elsewhere.",
    ),
    CheckConstraint('"only"', name="one_row"),
    CheckConstraint("gap IN ('copy', 'behind')", name="gap"),
    CheckConstraint("(gap IS NULL) = (gap_at IS NULL) AND (gap IS NULL) = (gap_through IS NULL)", name="gap_is_whole"),
    schema="sync",
    comment="Which database this is, how far it was worked with, and whether it is the one to work with.",
)

budgets = Table(
    "budgets",
    metadata,
    Column("token_fingerprint", LargeBinary, primary_key=True, comment="As in sync.connections."),
    schema="sync",
    comment="The access tokens that have a request budget; a row is locked by whoever writes one of its reservations.",
)

reservations = Table(
    "reservations",
    metadata,
    Column(
        "token_fingerprint", LargeBinary, ForeignKey(budgets.c.token_fingerprint), primary_key=True, comment="Whose."
    ),
    Column("process", UUID, primary_key=True, comment="The process that wrote it, by a name of its own."),
    Column("beat", BigInteger, nullable=False, comment="Differs each time that the process writes."),
    Column("reserved", Integer, nullable=False, comment="Calls that it has under way, or may begin."),
    Column(
        "ages_ms",
        ARRAY(Integer),
        nullable=False,
        comment="How long ago, when it wrote this, each other call had ended.",
    ),
    Column("is_waiting", Boolean, nullable=False, comment="It got nothing, although others had more."),
    Column(
        "counts_for_ms",
        BigInteger,
        nullable=False,
        comment="Milliseconds without a new beat after which nothing of what is reserved counts.",
    ),
    Column(
        "silent_for_ms",
        BigInteger,
        comment="The same without a beat of the process in sync.daemons either; null: it counts whatever stands there.",
    ),
    Column("boot", UUID, comment="The boot of the machine that it was written on; null: not known."),
    Column("uptime_ms", BigInteger, comment="Milliseconds from that boot until it was written."),
    CheckConstraint("reserved >= 0", name="reserved"),
    schema="sync",
    comment="What each process has written down of its calls within the API's window, before it makes them.",
    # It is written again and again: room on the page keeps each time from touching an index.
    postgresql_with={"fillfactor": "50"},
)
