"""What the API answers with: bodies, errors and the pages that proxies put in their place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

import msgspec

JSON = "application/json"
HTML = "text/html"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response before it is sent. `items` and `cursor` repeat what the body says, for the record.

    `is_named`: it brings the `Request-Id`.
    """

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    items: int | None = None
    cursor: UUID | None = None
    is_named: bool = True


class Refused(Exception):
    """The API does not carry a call out. `is_violation` says that a correct client never gets here."""

    def __init__(self, status: int, message: str, *, details: str | None = None, is_violation: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.details = details
        self.is_violation = is_violation

    @property
    def sentence(self) -> str:
        """What was wrong, in one line."""
        return f"{self.message}: {self.details}" if self.details else self.message


def error(
    status: int, message: str, request_id: str, *, details: str | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """An error in the API's own form."""
    body = msgspec.json.encode({"Message": message, "RequestId": request_id, "Details": details})
    return Answer(status, body, headers=headers or {})


def html_page(status: int, title: str) -> Answer:
    """What a proxy or a captive portal answers with."""
    body = f"<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return Answer(status, body.encode(), content_type=HTML)
