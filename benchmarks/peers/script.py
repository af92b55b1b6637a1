"""The one-hour script: httpx, and SQLAlchemy Core's upsert of each page, as the documentation of PostgreSQL has it."""

import httpx
from mews import API, DATABASE_URL, Body, code_filters, pages, voucher_ids
from sqlalchemy import Boolean, Column, DateTime, MetaData, Table, Text, Uuid, create_engine, func, select
from sqlalchemy.dialects.postgresql import insert

codes = Table(
    "voucher_codes",
    MetaData(),
    Column("Id", Uuid, primary_key=True),
    Column("VoucherId", Uuid, nullable=False),
    Column("Value", Text),
    Column("ValidityStartUtc", DateTime(timezone=True)),
    Column("ValidityEndUtc", DateTime(timezone=True)),
    Column("CreatedUtc", DateTime(timezone=True)),
    Column("UpdatedUtc", DateTime(timezone=True), index=True),
    Column("IsActive", Boolean, nullable=False),
)
NAMES = codes.columns.keys()
UPSERT = insert(codes)
UPSERT = UPSERT.on_conflict_do_update(
    index_elements=["Id"], set_={name: UPSERT.excluded[name] for name in NAMES if name != "Id"}
)


def main() -> None:
    """Look for what is new, or for all if there is nothing yet."""
    engine = create_engine(DATABASE_URL.replace("postgresql://", "postgresql+psycopg://"))
    codes.metadata.create_all(engine)
    with engine.connect() as connection:
        newest = connection.scalar(select(func.max(codes.c.UpdatedUtc)))
    with httpx.Client(base_url=API, timeout=60) as http:

        def post(operation: str, body: Body) -> Body:
            answer: Body = http.post(operation, json=body).raise_for_status().json()
            return answer

        for body in code_filters(voucher_ids(post), newest):
            for page in pages(post, "voucherCodes/getAll", body):
                if rows := [{name: code[name] for name in NAMES} for code in page["VoucherCodes"]]:
                    with engine.begin() as connection:
                        connection.execute(UPSERT, rows)


main()
