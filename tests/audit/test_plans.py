"""How PostgreSQL goes about an audit's statements depends on no statistics: a mirror that was just filled has none."""

from typing import Any

import pytest
from sqlalchemy import Connection, event

from sync.audit.run import audit
from tests.audit.test_groups import filled
from tests.support.flows import LOOK
from tests.support.mirror import Mirror


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

    event.listen(mirror.connection.engine.sync_engine, "before_cursor_execute", explain)
    await audit(mirror.connection, LOOK)
    assert plans
    assert not [plan for plan in plans if "Nested Loop" in plan]
