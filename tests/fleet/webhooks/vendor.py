"""A simulated vendor, which tells a receiver of integrations."""

import json
from dataclasses import dataclass
from typing import Any

from sync.fleet.webhooks.work import Receiver, work_off
from sync.mews.transport import HttpPools
from tests.support.mirror import Mirror
from tests.web.helpers import exchange, read_answer

SECRET = "the-end-of-the-path"
STATES = """
SELECT name, origin, integration_id, paused_because, removed_at IS NOT NULL AS is_removed FROM sync.connections
WHERE name <> 'default' ORDER BY name
"""


@dataclass(slots=True)
class Vendor:
    """Sends events to a receiver, and lets it work them off."""

    mirror: Mirror
    receiver: Receiver
    port: int
    pools: HttpPools

    async def post(self, body: bytes, *, secret: str = SECRET, method: str = "POST") -> int:
        """The status that a request of these bytes is answered with."""
        head = f"{method} /integrations/{secret} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        return read_answer(await exchange(self.port, head.encode() + body)).status

    async def send(self, action: str, integration: str = "i-1", **data: Any) -> int:
        """Sends an event, again where a busy machine's database did not take it in time, as the vendor does."""
        event = {"Action": action, "Data": {"Integration": {"Id": integration, "Name": "Vouchers"}, **data}}
        for _ in range(10):
            if (status := await self.post(json.dumps(event).encode())) != 503:
                return status
        return 503

    async def created(self, token: str, name: str = "Hotel B", integration: str = "i-1") -> int:
        """Sends that an integration was created."""
        enterprise = {"Id": "any", "Name": name}
        return await self.send("IntegrationCreated", integration, Enterprise=enterprise, AccessToken=token)

    async def work_off_all(self) -> None:
        """Works off all that waits, as often as it is put off."""
        for _ in range(300):
            await self.mirror.execute("UPDATE sync.integration_events SET next_attempt_at = now()")
            if not await work_off(self.receiver):
                return

    async def rows(self, condition: str) -> list[str]:
        """The actions of the events of which this is so."""
        found = await self.mirror.rows(f"SELECT action FROM sync.integration_events WHERE {condition}")
        return [row["action"] for row in found]

    async def states(self) -> list[dict[str, Any]]:
        """What has become of the connections."""
        return await self.mirror.rows(STATES)


def state(**changed: Any) -> dict[str, Any]:
    """What has become of a hotel that an event has added, but for this."""
    whole = {"name": "Hotel B", "origin": "webhook", "integration_id": "i-1", "paused_because": None}
    return {**whole, "is_removed": False, **changed}
