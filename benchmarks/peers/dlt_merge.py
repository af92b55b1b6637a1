"""dlt as its documentation shows it: RESTClient, an incremental cursor, and the disposition merge on a primary key."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import dlt
from dlt.sources.helpers.rest_client import RESTClient
from dlt.sources.helpers.rest_client.paginators import JSONResponseCursorPaginator
from mews import API, COUNT, CREDENTIALS, DATABASE_URL, Body, code_filters, voucher_ids

client = RESTClient(
    API, paginator=JSONResponseCursorPaginator(cursor_path="Cursor", cursor_body_path="Limitation.Cursor")
)


def post(operation: str, body: Body) -> Body:
    """One call."""
    answer: Body = client.post(operation, json=body).json()
    return answer


@dlt.resource(name="voucher_codes", primary_key="Id", write_disposition={"disposition": "merge", "strategy": "upsert"})
def voucher_codes(
    updated: Any = dlt.sources.incremental("UpdatedUtc", on_cursor_value_missing="include"),  # noqa: B008 - dlt's way
) -> Iterator[Any]:
    """The codes that have changed since the newest that is known, or all of them."""
    newest = datetime.fromisoformat(updated.last_value) if updated.last_value else None
    for body in code_filters(voucher_ids(post), newest):
        asked = CREDENTIALS | body | {"Limitation": {"Count": COUNT}}
        yield from client.paginate("voucherCodes/getAll", "POST", json=asked, data_selector="VoucherCodes")


destination = dlt.destinations.postgres(DATABASE_URL)
pipeline = dlt.pipeline("merge", destination=destination, dataset_name="peer")
pipeline.run(voucher_codes)
