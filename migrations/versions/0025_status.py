"""What `status` and the status page tell: which daemons run, what has failed since when, and samples for charts."""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

TIMESTAMP = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_index("audits_connection_id_idx", "audits", ["connection", "id"], schema="sync")
    op.add_column(
        "connections", sa.Column("error_kind", sa.Text, comment="Which kind of error it is, by its name."), schema="sync"
    )
    op.add_column(
        "plans",
        sa.Column("windows_planned", sa.Integer, comment="How many windows it has had; null: from an earlier release."),
        schema="sync",
    )
    _create_daemons()
    _create_outages()
    _create_request_failures()
    _create_samples()


def _create_daemons() -> None:
    op.create_table(
        "daemons",
        sa.Column("process", sa.UUID, primary_key=True, comment="The process, by a name of its own."),
        sa.Column("host", sa.Text, nullable=False, comment="The machine or container that it runs on."),
        sa.Column("pid", sa.Integer, nullable=False, comment="Its number there."),
        sa.Column("version", sa.Text, nullable=False, comment="Its release."),
        sa.Column("revision", sa.Text, nullable=False, comment="The schema's revision that it needs."),
        sa.Column("settings", postgresql.JSONB, nullable=False, comment="Its settings, without secrets."),
        sa.Column("started_at", TIMESTAMP, server_default=sa.func.now(), nullable=False, comment="When it first reported."),
        sa.Column("heartbeat_at", TIMESTAMP, server_default=sa.func.now(), nullable=False, comment="When it last did."),
        schema="sync",
        comment="The daemons that work on this database; one that stopped cleanly has no row.",
        postgresql_with={"fillfactor": "50"},
    )


def _create_outages() -> None:
    op.create_table(
        "outages",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Number of the outage."),
        sa.Column("connection", sa.Text, nullable=False, comment="The connection."),
        sa.Column("began_at", TIMESTAMP, server_default=sa.func.now(), nullable=False, comment="When it began to fail."),
        sa.Column("ended_at", TIMESTAMP, comment="When it worked again; null: it fails still."),
        sa.Column("error", sa.Text, nullable=False, comment="Why it failed, by its last cause."),
        schema="sync",
        comment="From when to when each connection failed, kept for 90 days.",
    )
    op.create_index(
        "outages_open_idx", "outages", ["connection"], unique=True, schema="sync",
        postgresql_where=sa.text("ended_at IS NULL"),
    )  # fmt: skip
    op.create_index("outages_connection_id_idx", "outages", ["connection", "id"], schema="sync")


def _create_request_failures() -> None:
    op.create_table(
        "request_failures",
        sa.Column("connection", sa.Text, primary_key=True, comment="The connection."),
        sa.Column("operation", sa.Text, primary_key=True, comment="The API's operation."),
        sa.Column("problem", sa.Text, primary_key=True, comment="What went wrong, with the HTTP status if there was one."),
        sa.Column("count", sa.BigInteger, nullable=False, comment="How often, since first_at."),
        sa.Column("first_at", TIMESTAMP, server_default=sa.func.now(), nullable=False, comment="When it was first noted."),
        sa.Column("last_at", TIMESTAMP, server_default=sa.func.now(), nullable=False, comment="When it was last noted."),
        sa.Column("request_id", sa.Text, comment="The API's name of the last such call, where it gave one."),
        schema="sync",
        comment="Calls of the API that failed, by operation and problem, forgotten 30 days after the last.",
    )


def _create_samples() -> None:
    op.create_table(
        "samples",
        sa.Column("connection", sa.Text, primary_key=True, comment="The connection."),
        sa.Column("at", TIMESTAMP, primary_key=True, comment="End of the five minutes that were counted."),
        sa.Column("behind_since", TIMESTAMP, comment="Complete through this instant and no further; null: up to date."),
        sa.Column("waiting", sa.Integer, nullable=False, comment="Changes that wait or are under way, counted to 10,000."),
        sa.Column("attention", sa.Integer, nullable=False, comment="Changes held or failed, counted to 10,000."),
        sa.Column("drift", sa.BigInteger, nullable=False, comment="Codes that the last audits found wrong."),
        sa.Column("codes", sa.BigInteger, nullable=False, comment="Codes written in these minutes."),
        sa.Column("requests", sa.BigInteger, nullable=False, comment="Calls of the API in these minutes."),
        sa.Column("failed", sa.BigInteger, nullable=False, comment="Those of them that failed."),
        schema="sync",
        comment="How each connection did, for charts: a row where something differs from the one before.",
    )
    op.create_index("samples_at_idx", "samples", ["at"], schema="sync")


def downgrade() -> None:
    for table in ("samples", "request_failures", "outages", "daemons"):
        op.drop_table(table, schema="sync")
    op.drop_column("plans", "windows_planned", schema="sync")
    op.drop_column("connections", "error_kind", schema="sync")
    op.drop_index("audits_connection_id_idx", "audits", schema="sync")
