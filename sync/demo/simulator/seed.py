"""A demo world: three hotels with three years of vouchers, and the tokens that see them."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from sync.demo.simulator.entities import Code, Voucher
from sync.demo.simulator.instants import Clock
from sync.demo.simulator.world import World

HOTELS = (("Hotel Aurora", "Europe/Prague"), ("Hotel Boreal", "Europe/Stockholm"), ("Hotel Cascade", "Europe/Lisbon"))
COMPANIES = ("Contoso", "Fabrikam", "Northwind", "Tailspin", "Litware", "Adatum")
SEASONS = ("Winter", "Spring", "Summer", "Autumn")
CAMPAIGNS = ("Newsletter welcome", "Loyalty thank-you", "Staff and friends", "Early bird", "Stay 3, pay 2")
ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"

YEARS = timedelta(days=3 * 365)
QUARTER = timedelta(days=91)
DELETED_SHARE = 0.12
CHANGED_SHARE = 0.2
"""Of all codes, those deleted or edited since they were made; the deleted ones are among them."""
IMPORT_SIZES = (1, 1, 1, 2, 5, 20, 100, 400)
"""How many codes come at the same second: mostly single ones made by hand, now and then a bulk import."""


@dataclass(frozen=True, slots=True)
class Demo:
    """The demo world and what a client needs to know of it."""

    world: World
    client_token: str = field(repr=False)
    aurora_token: str = field(repr=False)
    boreal_token: str = field(repr=False)
    portfolio_token: str = field(repr=False)


def demo_world(clock: Clock, seed: int, *, codes: int = 20_000, null_updated_share: float = 0.0) -> Demo:
    """Three hotels with `codes` codes between them, the same for the same seed and clock.

    Two hotels have a plain token each; a portfolio token sees all three. `null_updated_share` of the codes have no
    UpdatedUtc, which no window can see.
    """
    rng = random.Random(seed)
    client_token, *access_tokens = (_token_text(rng) for _ in range(4))
    world = World(clock, client_token=client_token, seed=rng.getrandbits(64))
    began = world.now() - YEARS
    hotels = [world.add_enterprise(name, time_zone=zone, updated_utc=began).id for name, zone in HOTELS]
    for text, name, seen in zip(
        access_tokens, ("aurora", "boreal", "portfolio"), (hotels[:1], hotels[1:2], hotels), strict=True
    ):
        world.add_token(text, name=name, enterprise_ids=seen, portfolio=name == "portfolio")
    vouchers = [voucher for hotel in hotels for voucher in _furnish(world, rng, hotel, began)]
    world.codes.put(_codes(world, rng, vouchers, codes, null_updated_share))
    return Demo(world, client_token, *access_tokens)


def new_value(rng: random.Random, name: str) -> str:
    """A code's value in the manner of the voucher of this name: 'SUMM26-7KQ2M9XA'."""
    letters = [word[:4] for word in name.upper().split() if word.isalpha()]
    year = next((word[-2:] for word in name.split() if word.isdigit() and len(word) == 4), "")
    return f"{letters[0]}{year}-{''.join(rng.choices(ALPHABET, k=8))}"


def _token_text(rng: random.Random) -> str:
    """A token as long as the vendor's, in two parts."""
    return f"{rng.getrandbits(128):032X}-{rng.getrandbits(124):031X}"


def _furnish(world: World, rng: random.Random, hotel: UUID, began: datetime) -> Iterator[Voucher]:
    """A hotel's services, and the vouchers of those that can carry some."""
    for name in ("Restaurant", "Wellness"):
        world.add_service(hotel, name, carries_vouchers=False, service_type="Additional", updated_utc=began)
    for name in ("Accommodation", "Long stay"):
        service = world.add_service(hotel, name, updated_utc=began)
        yield from _seasons(world, rng, service.id, began)
        for company in rng.sample(COMPANIES, 3):
            voucher = world.add_voucher(
                service.id, f"Corporate – {company}", created_utc=began, voucher_type="PartnerCompany"
            )
            voucher = msgspec.structs.replace(voucher, company_id=world.new_id())
            world.put_voucher(voucher)
            yield voucher
        for campaign in rng.sample(CAMPAIGNS, 2):
            yield world.add_voucher(service.id, campaign, created_utc=_between(rng, began, world.now()))


def _seasons(world: World, rng: random.Random, service_id: UUID, began: datetime) -> Iterator[Voucher]:
    """A voucher for each quarter so far; some of those that are long over have been deleted."""
    now = world.now()
    start = began
    while start < now:
        name = f"{SEASONS[(start.month - 1) // 3]} {start.year}"
        created = _between(rng, start, min(start + QUARTER, now))
        voucher = world.add_voucher(service_id, name, created_utc=created, rate_ids=[world.new_id()])
        over = created + 4 * QUARTER
        if over < now and rng.random() < 0.3:
            voucher = msgspec.structs.replace(voucher, is_active=False, updated_utc=_between(rng, over, now))
            world.put_voucher(voucher)
        yield voucher
        start += QUARTER


def _codes(
    world: World, rng: random.Random, vouchers: Sequence[Voucher], count: int, null_updated_share: float
) -> Iterator[Code]:
    """Codes as they came: in imports, each at one instant for all its codes, some of them changed since."""
    now = world.now()
    while count > 0:
        voucher = rng.choice(vouchers)
        created = _between(rng, voucher.created_utc, now)
        start, end = _validity(rng, created)
        size = min(rng.choice(IMPORT_SIZES), count)
        for _ in range(size):
            fate = rng.random()
            updated = _between(rng, created, now) if fate < CHANGED_SHARE else created
            yield Code(
                id=world.new_id(),
                voucher_id=voucher.id,
                value=new_value(rng, voucher.name),
                validity_start_utc=start,
                validity_end_utc=end,
                created_utc=created,
                updated_utc=None if rng.random() < null_updated_share else updated,
                is_active=fate >= DELETED_SHARE,
            )
        count -= size


def _validity(rng: random.Random, created: datetime) -> tuple[datetime | None, datetime | None]:
    midnight = created.replace(hour=0, minute=0, second=0)
    end = midnight + timedelta(days=rng.choice((30, 90, 365)))
    return rng.choices(((None, None), (midnight, end), (None, end), (midnight, None)), weights=(10, 6, 3, 1))[0]


def _between(rng: random.Random, start: datetime, end: datetime) -> datetime:
    return start + timedelta(seconds=rng.randint(0, int((end - start).total_seconds())))
