"""What a webhook is sent: one JSON object, and how a receiver knows that it is ours."""

import base64
import hashlib
import hmac
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from urllib.parse import urlsplit

from sync.alerts.conditions import ENDED, WHAT_TO_DO, Kind
from sync.alerts.store import Untold
from sync.setting_values import SIGNING_PREFIX

TEAMS_HOSTS = ("office.com", "logic.azure.com", "api.powerplatform.com")
"""Where a Teams workflow takes its webhooks. It shows nothing but an Adaptive Card, which others do not know."""
SLACK_HOSTS = ("slack.com", "slack-gov.com")
"""It takes what stands in angle brackets for a command, as one that calls everybody, unless these are written so."""
SLACK_WRITES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
GOOGLE_CHAT_HOSTS = ("chat.googleapis.com",)
"""It refuses a message with any field that it does not know."""
MAX_NAMED = 5
"""So many changes are told in the text; all of them stand in `changes`."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message; sent anew, it has the same `id`."""

    id: str
    fields: Mapping[str, object]


def messages_of(changes: Iterable[Untold], host: str) -> Iterator[tuple[Message, list[Untold]]]:
    """What is said of changes that this machine, `host`, has noticed, and of which each message tells.

    What is the same of several connections, as in an outage of the API, is one message.
    """
    alike: defaultdict[tuple[Kind, bool], list[Untold]] = defaultdict(list)
    for one in changes:
        alike[one.kind, one.level == ENDED].append(one)
    for (kind, has_ended), group in alike.items():
        yield _message(kind, group, host, has_ended=has_ended), group


def _message(kind: Kind, changes: Sequence[Untold], host: str, *, has_ended: bool) -> Message:
    named = [f"{one.connection} {one.summary}".strip() for one in changes[:MAX_NAMED]]
    more = f"; and {len(changes) - MAX_NAMED:,} more connections" if len(changes) > MAX_NAMED else ""
    what_to_do = "" if has_ended else WHAT_TO_DO[kind]
    said = f"{'; '.join(named)}{more}"
    text = f"✅ voucher-sync: over: {said}" if has_ended else f"⚠️ voucher-sync: {said}. What to do: {what_to_do}"
    fields: dict[str, object] = {
        "text": text,
        "event": "ended" if has_ended else "raised",
        "condition": kind.value,
        "what_to_do": what_to_do,
        "changes": [
            {"connection": one.connection, "summary": one.summary, "since": _instant(one.since)} for one in changes
        ],
    }
    told = [f"{one.connection} {one.kind} {one.level} {one.since.isoformat()}" for one in changes]
    return Message(_digest("\n".join(told)), fields | _sender(host))


def trial(host: str, now: datetime) -> Message:
    """A message that says nothing but that messages arrive."""
    text = "🔔 voucher-sync: this is a trial, asked for by `voucher-sync check --alert`. Nothing is wrong."
    fields: dict[str, object] = {"text": text, "event": "trial", "condition": "", "what_to_do": "", "changes": []}
    return Message(_digest(f"trial {host} {now.isoformat()}"), fields | _sender(host))


def _instant(value: datetime) -> str:
    return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _digest(told: str) -> str:
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _sender(host: str) -> dict[str, str]:
    return {"host": host, "version": version("voucher-sync")}


def body_for(url: str, message: Message) -> bytes:
    """The JSON that the receiver at `url` can take: `text`, as chat programs show it, beside the single fields."""
    body: dict[str, object] = {"id": message.id, **message.fields}
    host = urlsplit(url).hostname or ""
    if _is_among(GOOGLE_CHAT_HOSTS, host):
        body = {"text": message.fields["text"]}
    if _is_among(SLACK_HOSTS, host):
        body["text"] = str(message.fields["text"]).translate(SLACK_WRITES)
    if _is_among(TEAMS_HOSTS, host):
        block = {"type": "TextBlock", "text": message.fields["text"], "wrap": True}
        card = {"type": "AdaptiveCard", "version": "1.4", "body": [block]}
        attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
        body |= {"type": "message", "attachments": [attachment]}
    return json.dumps(body, ensure_ascii=False).encode()


def _is_among(hosts: Iterable[str], host: str) -> bool:
    return any(host == one or host.endswith(f".{one}") for one in hosts)


def signature_headers(secret: str | None, message: Message, body: bytes, now_s: int) -> dict[str, str]:
    """Headers as the Standard Webhooks specification (version 1) has them; the signature only with a secret.

    `now_s`: seconds since 1970. The secret's own bytes sign, or those that base64 after `whsec_` stands for.
    """
    headers = {"webhook-id": message.id, "webhook-timestamp": str(now_s)}
    if secret is None:
        return headers
    signed = f"{message.id}.{now_s}.".encode() + body
    digest = hmac.digest(_key(secret), signed, "sha256")
    return {**headers, "webhook-signature": f"v1,{base64.b64encode(digest).decode()}"}


def _key(secret: str) -> bytes:
    if secret.startswith(SIGNING_PREFIX):
        return base64.b64decode(secret.removeprefix(SIGNING_PREFIX), validate=True)
    return secret.encode()
