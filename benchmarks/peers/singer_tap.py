"""A Singer tap by the Meltano SDK: a RESTStream of codes with UpdatedUtc as its replication key."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import requests
from mews import API, COUNT, CREDENTIALS, Body, code_filters, voucher_ids
from singer_sdk import RESTStream, Tap
from singer_sdk import typing as th
from singer_sdk.helpers.types import Context


def post(operation: str, body: Body) -> Body:
    """One call."""
    answer: Body = requests.post(API + operation, json=body, timeout=60).json()
    return answer


class Codes(RESTStream[str]):
    """The codes of one group of vouchers after another."""

    name = "voucher_codes"
    path = "voucherCodes/getAll"
    http_method = "POST"
    primary_keys = ("Id",)
    replication_key = "UpdatedUtc"
    records_jsonpath = "$.VoucherCodes[*]"
    next_page_token_jsonpath = "$.Cursor"
    url_base = API.rstrip("/") + "/"
    schema = th.PropertiesList(
        th.Property("Id", th.UUIDType, required=True),
        th.Property("VoucherId", th.UUIDType, required=True),
        th.Property("Value", th.StringType),
        th.Property("ValidityStartUtc", th.DateTimeType),
        th.Property("ValidityEndUtc", th.DateTimeType),
        th.Property("CreatedUtc", th.DateTimeType),
        th.Property("UpdatedUtc", th.DateTimeType),
        th.Property("IsActive", th.BooleanType, required=True),
    ).to_dict()

    def request_records(self, context: Context | None) -> Iterable[dict[str, Any]]:
        """All pages of all groups."""
        newest: datetime | None = self.get_starting_timestamp(context)
        for self.body in code_filters(voucher_ids(post), newest):
            yield from super().request_records(context)

    def prepare_request_payload(self, context: Context | None, next_page_token: str | None) -> Body:
        """The body of one request."""
        limitation = {"Count": COUNT} | ({"Cursor": next_page_token} if next_page_token else {})
        return CREDENTIALS | self.body | {"Limitation": limitation}


class TapCodes(Tap):
    """The tap."""

    name = "tap-voucher-codes"
    config_jsonschema = th.PropertiesList().to_dict()

    def discover_streams(self) -> list[Codes]:
        """The one stream."""
        return [Codes(self)]


if __name__ == "__main__":
    TapCodes.cli()
