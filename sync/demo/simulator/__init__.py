"""A simulator of the Mews Connector API: a second implementation of it, served over HTTP, with faults on request.

It knows nothing of the rest of `sync`, so that the two cannot share a misunderstanding.
"""

from sync.demo.simulator.behaviour import Behaviour
from sync.demo.simulator.entities import Code, Enterprise, Operation, Service, Token, Voucher
from sync.demo.simulator.faults import (
    BAD_DAY,
    Close,
    Drip,
    Endless,
    Fault,
    Faults,
    Hang,
    HiddenWrite,
    HtmlPage,
    MalformedJson,
    PartialAdd,
    PartialAnswer,
    RawBody,
    Slow,
    Status,
    TruncatedBody,
)
from sync.demo.simulator.journal import RequestRecord
from sync.demo.simulator.other_users import OtherUsers
from sync.demo.simulator.seed import Demo, demo_world
from sync.demo.simulator.simulator import Simulator
from sync.demo.simulator.throttle import UNLIMITED, RateLimit, RetryAfter
from sync.demo.simulator.world import KEEP, NOW, World

__all__ = [
    "BAD_DAY",
    "KEEP",
    "NOW",
    "UNLIMITED",
    "Behaviour",
    "Close",
    "Code",
    "Demo",
    "Drip",
    "Endless",
    "Enterprise",
    "Fault",
    "Faults",
    "Hang",
    "HiddenWrite",
    "HtmlPage",
    "MalformedJson",
    "Operation",
    "OtherUsers",
    "PartialAdd",
    "PartialAnswer",
    "RateLimit",
    "RawBody",
    "RequestRecord",
    "RetryAfter",
    "Service",
    "Simulator",
    "Slow",
    "Status",
    "Token",
    "TruncatedBody",
    "Voucher",
    "World",
    "demo_world",
]
