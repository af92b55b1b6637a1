"""What is no event is refused without being quoted, and what is one is read."""

import json
from typing import Any

import pytest

from sync.fleet.webhooks.events import Action, Event, read_event

CREATED = {
    "Action": "IntegrationCreated",
    "Data": {
        "Enterprise": {"Id": "e", "Name": "Hotel"},
        "Service": None,
        "Requestor": None,
        "AccessToken": "A-TOKEN",
        "CreatedUtc": "2026-01-01T00:00:00Z",
        "IsEnabled": True,
        "Integration": {"Id": "i", "Name": "Vouchers"},
    },
}


def body(action: str = "IntegrationCreated", **data: Any) -> bytes:
    return json.dumps({"Action": action, "Data": {"Integration": {"Id": "i"}, **data}}).encode()


def test_an_event_is_read() -> None:
    assert read_event(json.dumps(CREATED).encode()) == Event(Action.CREATED, "i", "Hotel", "A-TOKEN")
    assert read_event(body("IntegrationApiKeyCreated", ApiKey="NEW")) == Event(Action.API_KEY_CREATED, "i", None, "NEW")
    assert read_event(body("IntegrationDeleted")) == Event(Action.DELETED, "i")
    assert read_event(body("IntegrationPainted")) is None
    assert "A-TOKEN" not in repr(read_event(json.dumps(CREATED).encode()))


@pytest.mark.parametrize(
    "sent",
    [
        b"", b"null", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"Action": 1, "Data": {}}',
        json.dumps({"Action": "IntegrationCreated", "Data": []}).encode(),
        json.dumps({"Action": "IntegrationCreated", "Data": {"Integration": {}}}).encode(),
        json.dumps({"Action": "IntegrationCreated", "Data": {"Integration": {"Id": "SECRET" * 100}}}).encode(),
        body(AccessToken="SECRET\n"), body(AccessToken="two SECRETs"), body(AccessToken=7),
        body(AccessToken="S" * 1001),
    ],
    ids=lambda sent: sent[:20],
)  # fmt: skip
def test_what_is_no_event_is_refused(sent: bytes) -> None:
    with pytest.raises(ValueError) as told:  # noqa: PT011 - its words are what is looked at
        read_event(sent)
    assert "SECRET" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("ホテル\u3000東京", "ホテル 東京"),
        ("Hotel\xa0Ritz", "Hotel Ritz"),
        ("\u200fמלון", "מלון"),
        ("a\x07b\ud800", "ab"),
        (" Hotel\n", "Hotel"),
        ("Cafe\u0301", "Caf\xe9"),
        ("x" * 300, "x" * 255),
        ("\u200b", None),
        ("", None),
        (["Hotel"], None),
    ],
)
def test_a_hotel_joins_whatever_it_is_called(name: Any, shown: str | None) -> None:
    assert read_event(body(Enterprise={"Name": name})) == Event(Action.CREATED, "i", shown)
