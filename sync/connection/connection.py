"""What everything that is done for a connection works with."""

from dataclasses import dataclass, field
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncEngine

from sync.connection.incarnation import Incarnation
from sync.connection.refusals import Refusals
from sync.connection.set_aside import SetAside
from sync.connection.tenure import Tenure
from sync.mews.client import Client
from sync.postgres.places import asked_by
from sync.signals import Signal, Turn


@dataclass(slots=True)
class Identity:
    """The API's address, the fingerprint of the access token, and whether they are known to be this connection's.

    `is_accepted`: somebody has said that they are from now on. `is_stored`: the database has them, not the environment.
    """

    platform_address: str
    token: bytes
    is_accepted: bool = False
    is_stored: bool = False
    is_verified: bool = False
    verifying: Turn = field(default_factory=Turn)


@dataclass(frozen=True, slots=True)
class Connection:
    """One access token on one platform address, and the database it is mirrored into.

    `shared_engine` is the process's. Once `stop` is set, what is done for it ends with the page in flight. `process` is
    what others know this one by, and `tenure` whether it may ask and send now.
    """

    name: str
    client: Client
    shared_engine: AsyncEngine
    stop: Signal
    identity: Identity
    incarnation: Incarnation
    refusals: Refusals = field(default_factory=Refusals)
    set_aside: SetAside = field(default_factory=SetAside)
    process: UUID = field(default_factory=uuid4)
    tenure: Tenure = field(default_factory=Tenure)

    @property
    def engine(self) -> AsyncEngine:
        """The process's, which this connection asks for sessions by its name; made anew each time, of thousands."""
        return asked_by(self.shared_engine, self.name)
