"""How PostgreSQL goes about an audit's statements depends on no statistics: a mirror that was just filled has none."""

from typing import Any

import pytest
from sqlalchemy import Connection, event

from sync.audit.run import audit
from tests.audit.test_groups import filled
from tests.support.flows import LOOK
from tests.support.mirror import Mirror

OTHERS = """
WITH vouchers AS (
  INSERT INTO mews.vouchers (id, service_id, enterprise_id, name, is_active, connection)
  SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'V', true, 'hotel-' || number
  FROM generate_series(1, 500) AS number RETURNING id, connection
)
INSERT INTO mews.voucher_codes (id, voucher_id, value, is_active, connection)
SELECT gen_random_uuid(), vouchers.id, 'C' || number, true, vouchers.connection
FROM vouchers CROSS JOIN generate_series(1, 40) AS number
"""


@pytest.mark.long
async def test_codes_that_no_listing_showed_are_found_in_one_reading(mirror: Mirror) -> None:
    await filled(mirror, 20, 50)
    plans: list[str] = []

    def explain(connection: Connection, _cursor: object, statement: str, parameters: Any, *_others: object) -> None:
        if "unnest" in statement and "NOT (EXISTS" in statement:
            cursor = connection.connection.cursor()  # as it is read: what a cursor is planned for is its first rows
            cursor.execute(f"EXPLAIN DECLARE unlisted CURSOR FOR {statement}", parameters)
            plans.append("\n".join(row[0] for row in cursor.fetchall()))
            cursor.close()

    event.listen(mirror.connection.shared_engine.sync_engine, "before_cursor_execute", explain)
    await audit(mirror.connection, LOOK)
    assert plans
    assert not [plan for plan in plans if "Nested Loop" in plan]


@pytest.mark.long
async def test_of_many_hotels_an_audit_reads_the_codes_of_its_own(mirror: Mirror) -> None:
    await filled(mirror, 2, 10)
    await mirror.execute(OTHERS)
    await mirror.execute("ANALYZE")
    plans: dict[str, str] = {}

    def explain(connection: Connection, _cursor: object, statement: str, parameters: Any, *_others: object) -> None:
        if "mews.voucher_codes" in statement and not statement.startswith("LOCK"):
            cursor = connection.connection.cursor()
            cursor.execute(f"EXPLAIN {statement}", parameters)
            plans[statement] = "\n".join(row[0] for row in cursor.fetchall())
            cursor.close()

    event.listen(mirror.connection.shared_engine.sync_engine, "before_cursor_execute", explain)
    await audit(mirror.connection, LOOK)
    assert len(plans) >= 5
    assert [statement for statement, plan in plans.items() if "Seq Scan on voucher_codes" in plan] == []
