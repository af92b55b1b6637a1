"""What is sent, to whom, and how it is signed."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from sync.alerts.conditions import ENDED, WHAT_TO_DO, Kind
from sync.alerts.message import MAX_NAMED, Message, body_for, messages_of, signature_headers, trial
from sync.alerts.store import Untold

INSTANT = datetime(2026, 5, 1, 8, 30, tzinfo=UTC)
RAISED = Untold("default", Kind.FAILING, 1, "fails: the API is away", INSTANT)
OVER = Untold("default", Kind.FAILING, ENDED, "fails: the API is away", INSTANT)
PLAIN, SLACK = "https://alerts.example/hook", "https://hooks.slack.com/services/T/B/x"


def only(one: Untold) -> Message:
    """The message of one change."""
    ((message, changes),) = messages_of([one], "a-host")
    assert changes == [one]
    return message


def test_a_message_says_what_happened_where_and_what_to_do() -> None:
    told = json.loads(body_for(PLAIN, only(RAISED)))
    assert told["text"] == f"⚠️ voucher-sync: default fails: the API is away. What to do: {WHAT_TO_DO[Kind.FAILING]}"
    assert (told["event"], told["condition"], told["host"]) == ("raised", "failing", "a-host")
    assert told["changes"] == [
        {"connection": "default", "summary": "fails: the API is away", "since": "2026-05-01T08:30:00Z"}
    ]


def test_its_end_asks_for_nothing() -> None:
    told = json.loads(body_for(PLAIN, only(OVER)))
    assert (told["event"], told["what_to_do"]) == ("ended", "")
    assert told["text"].startswith("✅ voucher-sync: over: default fails")


def test_an_outage_of_many_connections_is_one_message() -> None:
    many = [Untold(f"hotel-{number}", Kind.FAILING, 1, "fails: away", INSTANT) for number in range(1000)]
    ((message, changes),) = messages_of(many, "a-host")
    told = json.loads(body_for(PLAIN, message))
    assert len(changes) == len(told["changes"]) == 1000
    assert told["text"].count("fails: away") == MAX_NAMED
    assert "and 995 more connections" in told["text"]


def test_what_is_sent_anew_has_the_same_id_and_another_change_has_another() -> None:
    assert only(RAISED).id == only(RAISED).id != only(OVER).id


@pytest.mark.parametrize(
    "url",
    [
        "https://x.webhook.office.com/a",
        "https://prod-1.westeurope.logic.azure.com/b",
        "https://a.api.powerplatform.com",
    ],
)
def test_teams_is_sent_the_card_that_it_shows(url: str) -> None:
    told = json.loads(body_for(url, only(RAISED)))
    (attachment,) = told["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert attachment["content"]["body"][0]["text"] == told["text"]


def test_google_chat_is_sent_nothing_that_it_does_not_know() -> None:
    url = "https://chat.googleapis.com/v1/spaces/A/messages?key=k&token=t"
    told = json.loads(body_for(url, only(RAISED)))
    assert told == {"text": only(RAISED).fields["text"]}


@pytest.mark.parametrize(("url", "shown"), [(SLACK, "Q&amp;A &lt;!channel&gt;"), (PLAIN, "Q&A <!channel>")])
def test_slack_takes_no_name_for_a_command(url: str, shown: str) -> None:
    told = json.loads(body_for(url, only(replace(RAISED, connection="Q&A <!channel>"))))
    assert told["text"].startswith(f"⚠️ voucher-sync: {shown} fails")
    assert told["changes"][0]["connection"] == "Q&A <!channel>"


@pytest.mark.parametrize("url", [PLAIN, SLACK, "https://notoffice.com/x"])
def test_others_are_not(url: str) -> None:
    assert "attachments" not in json.loads(body_for(url, only(RAISED)))


def test_a_signature_is_the_standards_own() -> None:
    # The example of the Standard Webhooks specification.
    message = Message("msg_p5jXN8AQM9LWM0D4loKWxJek", {})
    headers = signature_headers("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", message, b'{"test": 2432232314}', 1614265330)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == (message.id, "1614265330")


def test_any_words_can_be_the_secret_and_without_one_nothing_is_signed() -> None:
    message = trial("a-host", INSTANT)
    signed = {signature_headers(secret, message, b"x", 1)["webhook-signature"] for secret in ("hush", "other")}
    assert len(signed) == 2
    assert "webhook-signature" not in signature_headers(None, message, b"x", 1)
