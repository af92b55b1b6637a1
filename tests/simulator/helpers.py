"""A small world, its simulator, and a client that speaks plain HTTP to it. Time moves only when a test says so."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from sync.demo.simulator import Code, RateLimit, Simulator, World

CLIENT_TOKEN = "the-client-token"
PLAIN, PORTFOLIO = "the-plain-token", "the-portfolio-token"
START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


class Time:
    """The server's clock and its timer, and sleeps that only note how long they would have been."""

    def __init__(self) -> None:
        self.now = START
        self.elapsed_s = 1000.0
        self.slept_s: list[float] = []

    def clock(self) -> datetime:
        return self.now

    def timer(self) -> float:
        return self.elapsed_s

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.elapsed_s += seconds

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)


class Stage:
    """Hotel A with a plain token, hotel B, a portfolio token for both, and a voucher in each."""

    def __init__(self, *, rate_limit: RateLimit | None = None) -> None:
        self.time = Time()
        self.world = World(self.time.clock, client_token=CLIENT_TOKEN)
        self.hotel, self.other_hotel = (self.world.add_enterprise(name) for name in ("Hotel A", "Hotel B"))
        self.world.add_token(PLAIN, name="plain", enterprise_ids=[self.hotel.id])
        self.world.add_token(
            PORTFOLIO, name="portfolio", portfolio=True, enterprise_ids=[self.hotel.id, self.other_hotel.id]
        )
        self.service = self.world.add_service(self.hotel.id, "Stay")
        self.restaurant = self.world.add_service(
            self.hotel.id, "Restaurant", carries_vouchers=False, service_type="Additional"
        )
        self.other_service = self.world.add_service(self.other_hotel.id, "Stay")
        self.voucher = self.world.add_voucher(self.service.id, "Summer 2026")
        self.other_voucher = self.world.add_voucher(self.other_service.id, "Winter 2026")
        self.simulator = self.new_simulator(rate_limit=rate_limit or RateLimit())
        self.http = httpx.AsyncClient(timeout=5, verify=False)
        self.address = ""

    def new_simulator(self, **options: Any) -> Simulator:
        """A simulator of this world that differs from the usual one in some options."""
        return Simulator(self.world, **({"timer": self.time.timer, "sleep": self.time.sleep} | options))

    def add(self, *values: str | None, minutes_ago: float = 0) -> list[Code]:
        """Codes of hotel A's voucher, last updated so long before the start."""
        return self.world.add_codes(self.voucher.id, values, updated_utc=START - timedelta(minutes=minutes_ago))

    async def call(self, operation: str, *, token: str = PLAIN, **properties: Any) -> httpx.Response:
        """Calls an operation; a property given as `...` is left out of the body."""
        body = {"ClientToken": CLIENT_TOKEN, "AccessToken": token, "Client": "tests 1.0"} | properties
        body = {name: value for name, value in body.items() if value is not ...}
        return await self.http.post(f"{self.address}/api/connector/v1/{operation}", json=body)

    async def read(self, *, count: int = 1000, cursor: object = ..., **properties: Any) -> httpx.Response:
        """One page of hotel A's codes."""
        limitation = {"Count": count} | ({} if cursor is ... else {"Cursor": cursor})
        properties = {"VoucherIds": [str(self.voucher.id)], "Limitation": limitation} | properties
        return await self.call("voucherCodes/getAll", **properties)

    async def values(self, **properties: Any) -> list[str | None]:
        """The values on one page of hotel A's codes."""
        answer = await self.read(**properties)
        assert answer.status_code == 200, answer.text
        return [code["Value"] for code in answer.json()["VoucherCodes"]]

    async def write(self, *values: str, **properties: Any) -> httpx.Response:
        """Adds codes to hotel A's voucher through the API."""
        items = [{"VoucherId": str(self.voucher.id), "Value": value} for value in values]
        return await self.call("voucherCodes/add", **({"VoucherCodeParameters": items} | properties))

    async def erase(self, *codes: Code, **properties: Any) -> httpx.Response:
        """Deletes codes through the API."""
        ids = [str(code.id) for code in codes]
        return await self.call("voucherCodes/delete", **({"VoucherCodeIds": ids} | properties))
