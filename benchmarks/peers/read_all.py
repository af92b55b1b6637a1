"""A floor: reads every page of codes and throws it away."""

import httpx
from mews import API, Body, code_filters, pages, voucher_ids

with httpx.Client(base_url=API, timeout=60) as http:

    def post(operation: str, body: Body) -> Body:
        """One call."""
        answer: Body = http.post(operation, json=body).raise_for_status().json()
        return answer

    for body in code_filters(voucher_ids(post)):
        for _ in pages(post, "voucherCodes/getAll", body):
            pass
