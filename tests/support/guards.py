"""What users of the database put on the mirror's table: each refuses a code whose value is `BAD`, in its own way."""

from collections.abc import Sequence

from tests.support.mirror import Mirror

BAD = "BAD"


def trigger(body: str, timing: str = "BEFORE INSERT OR UPDATE", *, is_constraint: bool = False) -> list[str]:
    """A trigger on the codes."""
    kind, when = ("CONSTRAINT TRIGGER", "DEFERRABLE INITIALLY DEFERRED") if is_constraint else ("TRIGGER", "")
    return [
        f"CREATE FUNCTION public.guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$",
        f"CREATE {kind} guard {timing} ON mews.voucher_codes {when} FOR EACH ROW EXECUTE FUNCTION public.guard()",
    ]


MET = {
    "another server that is away": "08001",
    "another server that is full": "53300",
    "another server that is a standby": "25006",
    "a time-out at another server": "57014",
    "somebody's lock": "55P03",
    "a conflict at another server": "40001",
    "a fault of an extension": "XX000",
}
"""What a trigger may meet that writes elsewhere, as by `postgres_fdw`, or waits for nobody, by NOWAIT."""


def failing(code: str) -> list[str]:
    """A trigger that fails for one code, in words that hold its value."""
    return trigger(f"IF NEW.value = 'BAD' THEN RAISE '%', NEW.value USING ERRCODE = '{code}'; END IF; RETURN NEW;")


KNOWN = [
    "CREATE TABLE public.known (value text PRIMARY KEY)",
    "INSERT INTO public.known SELECT 'GOOD-' || number FROM generate_series(0, 999) AS number",
]
FOREIGN_KEY = "ALTER TABLE mews.voucher_codes ADD CONSTRAINT guard FOREIGN KEY (value) REFERENCES public.known"
RAISE = "IF NEW.value = 'BAD' THEN RAISE EXCEPTION 'I hate %', NEW.value; END IF; RETURN NEW;"

CHECK = ["ALTER TABLE mews.voucher_codes ADD CONSTRAINT guard CHECK (value <> 'BAD')"]
LATER = "'2031-01-01'"
ONE_SORT: dict[str, Sequence[str]] = {
    "a unique index on the voucher": ["CREATE UNIQUE INDEX guard ON mews.voucher_codes (voucher_id) WHERE is_active"],
    "a check of the voucher": [
        "CREATE FUNCTION public.first() RETURNS uuid LANGUAGE sql IMMUTABLE "
        "AS $$ SELECT id FROM mews.vouchers WHERE name = 'Summer' $$",
        "ALTER TABLE mews.voucher_codes ADD CONSTRAINT guard CHECK (voucher_id <> public.first()) NOT VALID",
    ],
    "a check of the end": [
        "ALTER TABLE mews.voucher_codes ADD CONSTRAINT guard CHECK (validity_end_utc IS NOT NULL) NOT VALID"
    ],
    "a check of the begin": [
        f"ALTER TABLE mews.voucher_codes ADD CONSTRAINT guard CHECK (validity_start_utc < {LATER}) NOT VALID"
    ],
}

UNDO = (
    "DROP FUNCTION IF EXISTS public.guard CASCADE",
    "ALTER TABLE mews.voucher_codes DROP CONSTRAINT IF EXISTS guard",
    "DROP INDEX IF EXISTS mews.guard",
    "ALTER TABLE mews.voucher_codes DROP COLUMN IF EXISTS own",
)

GUARDS: dict[str, Sequence[str]] = {
    "a unique index": [
        "INSERT INTO mews.voucher_codes (id, voucher_id, value, is_active, connection) "
        "VALUES (gen_random_uuid(), gen_random_uuid(), 'BAD', true, 'another')",
        "CREATE UNIQUE INDEX guard ON mews.voucher_codes (value)",
    ],
    "an exclusion constraint": [
        "INSERT INTO mews.voucher_codes (id, voucher_id, value, is_active, connection) "
        "VALUES (gen_random_uuid(), gen_random_uuid(), 'BAD', true, 'another')",
        "ALTER TABLE mews.voucher_codes ADD CONSTRAINT guard EXCLUDE USING hash (value WITH =)",
    ],
    "a check": CHECK,
    "a column of theirs that must not be empty": [
        "ALTER TABLE mews.voucher_codes ADD COLUMN own text NOT NULL DEFAULT 'x'",
        *trigger("NEW.own := nullif(NEW.value, 'BAD'); RETURN NEW;"),
    ],
    "a column of ours that must not be empty": [
        "ALTER TABLE mews.voucher_codes ALTER COLUMN value SET NOT NULL",
        *trigger("NEW.value := nullif(NEW.value, 'BAD'); RETURN NEW;"),
    ],
    "a generated column": [
        "ALTER TABLE mews.voucher_codes ADD COLUMN number int "
        "GENERATED ALWAYS AS (CASE value WHEN 'BAD' THEN value::int END) STORED"
    ],
    "an index on an expression": ["CREATE INDEX ON mews.voucher_codes ((CASE value WHEN 'BAD' THEN value::int END))"],
    "an index whose rows grow too large": [
        "CREATE FUNCTION public.long(text) RETURNS text LANGUAGE sql IMMUTABLE AS "
        "$$ SELECT string_agg(md5(number::text), '') FROM generate_series(1, 600) AS number WHERE $1 = 'BAD' $$",
        "CREATE INDEX ON mews.voucher_codes (public.long(value))",
    ],
    "a foreign key": [*KNOWN, FOREIGN_KEY],
    "a foreign key that is checked at the commit": [*KNOWN, f"{FOREIGN_KEY} DEFERRABLE INITIALLY DEFERRED"],
    "a trigger before the row": trigger(RAISE),
    "a trigger after the row": trigger(RAISE, "AFTER INSERT OR UPDATE"),
    "a trigger at the commit": trigger(RAISE, "AFTER INSERT OR UPDATE", is_constraint=True),
    **{f"a trigger that met {met}": failing(code) for met, code in MET.items()},
    "a trigger whose table is gone": trigger(
        "IF NEW.value = 'BAD' THEN INSERT INTO public.nowhere VALUES (NEW.value); END IF; RETURN NEW;"
    ),
    "a trigger that pretends to lack a privilege": trigger(
        "IF NEW.value = 'BAD' THEN RAISE insufficient_privilege USING MESSAGE = NEW.value; END IF; RETURN NEW;"
    ),
}

BEHIND_OURS: dict[str, Sequence[str]] = {
    "a trigger on the versions that met another server that is away": [
        "CREATE FUNCTION public.guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.value = 'GOOD-1' THEN RAISE '%', NEW.value USING ERRCODE = '08001'; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER guard BEFORE INSERT ON mews.voucher_code_versions FOR EACH ROW EXECUTE FUNCTION public.guard()",
    ],
    "a check of the versions": ["ALTER TABLE mews.voucher_code_versions ADD CHECK (value <> 'GOOD-1')"],
}
"""What refuses a change of the code `GOOD-1`, in the statement by which a trigger of ours keeps that version."""

ALWAYS: dict[str, Sequence[str]] = {
    "a trigger that always raises": trigger("RAISE EXCEPTION 'never %', NEW.value;"),
    "a trigger of the statement": [
        "CREATE FUNCTION public.guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$",
        "CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON mews.voucher_codes EXECUTE FUNCTION public.guard()",
    ],
    "a trigger at the commit that always raises": trigger(
        "RAISE EXCEPTION 'never %', NEW.value;", "AFTER INSERT OR UPDATE", is_constraint=True
    ),
    "a column of theirs that nobody fills": ["ALTER TABLE mews.voucher_codes ADD COLUMN own text NOT NULL"],
    "a check that nothing passes": [
        "ALTER TABLE mews.voucher_codes ADD CONSTRAINT guard CHECK (connection = 'none') NOT VALID"
    ],
}
"""What refuses every row."""


async def put(mirror: Mirror, statements: Sequence[str]) -> None:
    """Has users do this to the tables."""
    for statement in statements:
        await mirror.execute(statement)


async def aside(mirror: Mirror, kind: str = "VoucherCodes") -> list[str]:
    """Why records were set aside."""
    query = "SELECT reason FROM sync.rejected_records WHERE kind = :kind AND sqlstate IS NOT NULL ORDER BY reason"
    return [row["reason"] for row in await mirror.rows(query, kind=kind)]
