"""Comments say what is so: no instant of the database's clock makes an attempt's owner dead. A wrong not_before is told
with the years that it may lie in.

The release before this one goes on as it is.
"""

from pathlib import Path

from alembic import op

revision = "0049"
down_revision = "0048"
branch_labels = None
depends_on = None

TRIGGERS = Path(__file__).with_suffix(".sql")
TRIGGERS_BEFORE = Path(__file__).with_name("0047_first_rows.sql")
DELETE_NOTED_AT = (
    "When voucher-sync deleted it; null once the API has shown it as deleted, by which updated_utc goes.",
    "When voucher-sync deleted it; null once the API has shown that, of which updated_utc tells only then.",
)
COMMENTS = {
    "COLUMN sync.attempts.id": (
        "Settles the rows that it claimed, and no others.",
        "Only who knows it completes the rows that it claimed.",
    ),
    "COLUMN sync.attempts.until": (
        "After this its owner counts as dead.",
        "Moves with each sign of life of whoever sends it; less started_at: how long each is good for.",
    ),
    "COLUMN mews.voucher_code_outbox.attempt_id": (
        "The attempt that alone may settle it.",
        "The attempt that alone may complete it.",
    ),
    "COLUMN mews.voucher_code_outbox.took_back_id": (
        "The add that a cancelled delete took back before that was sent, and had nothing else to do.",
        "The add that this delete took back before that was sent; nothing else was left to do.",
    ),
    "COLUMN mews.voucher_codes.delete_noted_at": DELETE_NOTED_AT,
    "COLUMN mews.voucher_code_versions.delete_noted_at": DELETE_NOTED_AT,
    "COLUMN mews.voucher_code_history.delete_noted_at": DELETE_NOTED_AT,
    "COLUMN sync.runs.began_at": (
        "When it began; a push: when the one before was noted.",
        "When it began; of pushes noted together, the first.",
    ),
    "FUNCTION mews.known_time_zone(text)": (
        "The name of a time zone, or null where this server knows none so.",
        "The name of a time zone, or null where this server knows none of that name.",
    ),
}
"""Before, and from now on."""


def upgrade() -> None:
    for item, (_, words) in COMMENTS.items():
        op.execute(f"COMMENT ON {item} IS '{words}'")
    _load(TRIGGERS)


def downgrade() -> None:
    _load(TRIGGERS_BEFORE)
    for item, (words, _) in COMMENTS.items():
        op.execute(f"COMMENT ON {item} IS '{words}'")


def _load(version: Path) -> None:
    """The functions of a version of the triggers; the triggers themselves stay as they are."""
    functions, _, _ = version.read_text(encoding="utf-8").partition("-- Triggers: ")
    op.execute(functions)
