"""Versions of codes that are replaced are kept, and what was written to the mirror lately is found by an index.

The release before this one goes on working, and keeps history without knowing of it: a trigger does. What a database
held before was not kept, so its codes begin with the version that stands.
"""

from pathlib import Path

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from sync.postgres.build_index import build_index

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

TIMESTAMP = sa.DateTime(timezone=True)
TABLE = "voucher_code_versions"
INDEX = "voucher_codes_mirrored_at_idx"
IN_FORCE = Path(__file__).with_suffix(".sql")

HISTORY = """
CREATE VIEW mews.voucher_code_history AS
SELECT version.voucher_code_id, version.valid_from, version.valid_to, version.changed, version.voucher_id,
       version.value, version.validity_start_utc, version.validity_end_utc, version.created_utc, version.updated_utc,
       version.is_active, version.connection, version.missing_since, version.delete_noted_at
FROM mews.voucher_code_versions AS version
UNION ALL
SELECT code.id, CASE WHEN code.mirrored_at = code.first_seen_at
                  THEN least(code.updated_utc, code.first_seen_at) ELSE code.mirrored_at END,
       NULL, NULL, code.voucher_id,
       code.value, code.validity_start_utc, code.validity_end_utc, code.created_utc, code.updated_utc,
       code.is_active, code.connection, code.missing_since, code.delete_noted_at
FROM mews.voucher_codes AS code
"""

# The columns that the mirror's table has too, with their meaning.
MIRRORED = (
    ("voucher_id", sa.UUID(), False, "The voucher it belongs to."),
    ("value", sa.Text(), True, "The code that a customer enters; null where the API's is."),
    ("validity_start_utc", TIMESTAMP, True, "First instant at which it can be used; null: no bound."),
    ("validity_end_utc", TIMESTAMP, True, "End of the time in which it can be used; null: no bound."),
    ("created_utc", TIMESTAMP, True, "When it was created, by the API."),
    ("updated_utc", TIMESTAMP, True, "When it was last changed, by the API, in whole seconds."),
    ("is_active", sa.Boolean(), False, "False once it is deleted in the API."),
    ("connection", sa.Text(), False, "Name of the connection that mirrors this row."),
    ("missing_since", TIMESTAMP, True, "When an audit first did not find it in the API; null: the API has it."),
    (
        "delete_noted_at", TIMESTAMP, True,
        "When voucher-sync deleted it; null once the API has shown it as deleted, by which updated_utc goes.",
    ),
)  # fmt: skip
OF_VERSIONS = {
    "voucher_code_id": "The code.",
    "valid_from": "When the mirror first showed it; of a code's first version, when the API had last changed it by then.",
    "valid_to": "When the mirror first showed the next one; null: it is the present one.",
    "changed": "Columns that changed then, by which it ended; null: it is the present one.",
    **{name: comment for name, _, _, comment in MIRRORED},
}
COMMENTS = {
    "VIEW mews.voucher_code_history": "Every version of every code that the mirror has shown, the present ones too.",
    **{f"COLUMN mews.voucher_code_history.{name}": comment for name, comment in OF_VERSIONS.items()},
    "FUNCTION mews.voucher_codes_as_of(timestamptz)": "Every code as it was at an instant, as far as it is known.",
    "FUNCTION mews.settled_before()": (
        "Everything with an earlier mirrored_at is committed; null where that cannot be seen, as on a standby."
    ),
}


def upgrade() -> None:
    build_index(op.get_bind(), "mews.voucher_codes", f"mews.{INDEX}", "(mirrored_at)", unique=False)
    op.create_table(
        TABLE,
        sa.Column(
            "id", sa.BigInteger(), sa.Identity(always=True), nullable=False,
            comment="Number of the version, in any order.",
        ),
        sa.Column("voucher_code_id", sa.UUID(), nullable=False, comment="The code."),
        sa.Column("valid_from", TIMESTAMP, nullable=False, comment=OF_VERSIONS["valid_from"]),
        sa.Column("valid_to", TIMESTAMP, nullable=False, comment="When the mirror first showed the next one."),
        sa.Column(
            "changed", ARRAY(sa.Text()), nullable=False, comment="Columns that changed then, by which it ended."
        ),
        *(sa.Column(name, type_, nullable=is_nullable, comment=comment) for name, type_, is_nullable, comment in MIRRORED),
        sa.PrimaryKeyConstraint("id", name=op.f(f"{TABLE}_pkey")),
        schema="mews",
        comment="Versions of codes that were replaced; only an erasure changes one. mews.voucher_code_history has "
        "the present ones too.",
    )  # fmt: skip
    for columns in (["voucher_code_id", "valid_to"], ["valid_to"]):
        op.create_index(op.f(f"{TABLE}_{'_'.join(columns)}_idx"), TABLE, columns, schema="mews")
    op.execute(HISTORY)
    op.execute(IN_FORCE.read_text(encoding="ascii"))
    for name, comment in COMMENTS.items():
        op.execute(f"COMMENT ON {name} IS '{comment.replace(chr(39), chr(39) * 2)}'")


def downgrade() -> None:
    op.execute("DROP TRIGGER keep_versions ON mews.voucher_codes")
    for function in ("sync.keep_versions()", "mews.settled_before()", "mews.voucher_codes_as_of(timestamptz)"):
        op.execute(f"DROP FUNCTION {function}")
    op.execute("DROP VIEW mews.voucher_code_history")
    op.drop_table(TABLE, schema="mews")
    op.drop_index(INDEX, table_name="voucher_codes", schema="mews")
