"""The tables of the replicas, which are the daemons, and of what each tells of its connections, with their meaning."""

from sqlalchemy import BigInteger, Boolean, Column, Integer, Table, Text, false, func
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from sync.postgres.metadata import TIMESTAMP, metadata

daemons = Table(
    "daemons",
    metadata,
    Column("process", UUID, primary_key=True, comment="The process, by a name of its own."),
    Column("host", Text, nullable=False, comment="The machine or container that it runs on."),
    Column("pid", Integer, nullable=False, comment="Its number there."),
    Column("version", Text, nullable=False, comment="Its release."),
    Column("revision", Text, nullable=False, comment="The schema's revision that it needs."),
    Column("settings", JSONB, nullable=False, comment="Its settings, without secrets."),
    Column("started_at", TIMESTAMP, nullable=False, server_default=func.now(), comment="When it first reported."),
    Column("heartbeat_at", TIMESTAMP, nullable=False, server_default=func.now(), comment="When it last did."),
    Column(
        "beat",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="Grows every two seconds while it lives; 0: it is of a release that has no such counter.",
    ),
    Column(
        "holds_lock",
        Boolean,
        nullable=False,
        server_default=false(),
        comment="It holds an advisory lock that ends with its session.",
    ),
    Column(
        "takes",
        ARRAY(Text),
        nullable=False,
        server_default="{}",
        comment="Whose tokens it has: environment, or stored, and the names of the keys to these, which tell nothing "
        "of the keys.",
    ),
    Column(
        "pid_space",
        Text,
        nullable=False,
        server_default="",
        comment="Where its number is one process's: a boot of a machine, and a namespace of processes; empty: unknown.",
    ),
    schema="sync",
    comment="The daemons that work on this database; one that stopped cleanly has no row.",
    # Written with every heartbeat: room on the page keeps that from touching an index.
    postgresql_with={"fillfactor": "50"},
)

caught_up = Table(
    "caught_up",
    metadata,
    Column("process", UUID, primary_key=True, comment="The replica, as in sync.daemons."),
    Column("part", Integer, primary_key=True, comment="Its connections from place 100 times this on."),
    Column("noted_at", TIMESTAMP, nullable=False, server_default=func.now(), comment="When it last reported."),
    Column(
        "as_of",
        ARRAY(TIMESTAMP),
        nullable=False,
        comment="By place: start, by this database's clock, of the last pull that caught up.",
    ),
    Column(
        "through", ARRAY(TIMESTAMP), nullable=False, comment="By place: the server's instant that this pull reached."
    ),
    schema="sync",
    comment="How far the connections of each replica have caught up; see sync.connection_freshness.",
    postgresql_with={"fillfactor": "50"},
)
