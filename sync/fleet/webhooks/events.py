"""What an integration webhook says (docs/mews-api.md); no message quotes it, since it may hold a token."""

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sync.core.names import composed

MAX_BYTES = 64 * 1024
"""An event has some 500."""
MAX_ID_LENGTH = 100
MAX_NAME_LENGTH = 255
MAX_TOKEN_LENGTH = 1000


class Action(StrEnum):
    """What has happened to an integration, by the vendor's name."""

    CREATED = "IntegrationCreated"
    ENABLED = "IntegrationEnabled"
    DISABLED = "IntegrationDisabled"
    CANCELED = "IntegrationCanceled"
    REINSTATED = "IntegrationReinstated"
    DELETED = "IntegrationDeleted"
    API_KEY_CREATED = "IntegrationApiKeyCreated"


@dataclass(frozen=True, slots=True)
class Event:
    """An event. Only the first and the last of the actions bring an access token, and only the first a hotel's name."""

    action: Action
    integration_id: str
    enterprise_name: str | None = None
    access_token: str | None = field(default=None, repr=False)


def read_event(body: bytes) -> Event | None:
    """The event in a body; None for an action that is not known. `ValueError` says what is wrong, and no more."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("the body is no JSON") from None
    action, data = _of(told, "Action"), _of(told, "Data")
    if not isinstance(action, str) or not isinstance(data, dict):
        raise ValueError("the body has no Action, or no Data")  # noqa: TRY004 - a body's fault, like the others
    integration_id = _text(_of(_of(data, "Integration"), "Id"), MAX_ID_LENGTH)
    if integration_id is None:
        raise ValueError("Data.Integration.Id is missing")
    if action not in set(Action):
        return None
    token = _text(data.get("AccessToken") or data.get("ApiKey"), MAX_TOKEN_LENGTH)
    if token is not None and (not token.isascii() or " " in token):
        raise ValueError("the token is none")
    name = _shown(_of(_of(data, "Enterprise"), "Name"))
    return Event(Action(action), integration_id, name, token)


def _shown(name: Any) -> str | None:
    """What can be shown of a hotel's name; None where there is nothing. A name is no reason to lose a hotel: it may
    hold a wide space, as in Japanese, or marks for the direction of writing.
    """
    if not isinstance(name, str):
        return None
    shown = "".join(one if one.isprintable() else " " if one.isspace() else "" for one in name)
    return " ".join(composed(shown).split())[:MAX_NAME_LENGTH].strip() or None


def _of(thing: Any, name: str) -> Any:
    return thing.get(name) if isinstance(thing, dict) else None


def _text(value: Any, most: int) -> str | None:
    """A text that can be stored and shown; None where it is missing. `ValueError` where it is something else."""
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= most or not value.isprintable():
        raise ValueError("holds a value that is no text, too long, or cannot be shown")
    return value
