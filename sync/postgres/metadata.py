"""What all tables share: their collection, the names of their constraints, and columns of every mirrored row."""

from datetime import timedelta

from sqlalchemy import Column, DateTime, MetaData, Text, func

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_name)s_key",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)

TIMESTAMP = DateTime(timezone=True)
UNDER_WAY = timedelta(minutes=1)
"""What others noted while a transaction is under way lies in its future by so much at most; more of it was noted before
the database's clock went back."""
ROWS_PER_STATEMENT = 1000
"""Of rows whose values are parameters, of which a statement may have 65,535."""
IS_UNLOGGED = "is_unlogged"
"""In a table's `info`: a crash of the database's server may empty it."""
BYTEWISE = 'COLLATE "C"'
"""Of texts in a unique index: sorted as the operating system does today, it would miss rows tomorrow. Given in place of
an operator class: an index on expressions would differ from what Alembic reads back."""


def mirrored_columns() -> list[Column[object]]:
    """What every mirrored row has beside the API's own columns."""
    return [
        Column("connection", Text, nullable=False, comment="Name of the connection that mirrors this row."),
        Column(
            "first_seen_at", TIMESTAMP, nullable=False, server_default=func.now(), comment="When it was first mirrored."
        ),
        Column(
            "mirrored_at",
            TIMESTAMP,
            nullable=False,
            server_default=func.now(),
            comment="When a change was last written.",
        ),
    ]
