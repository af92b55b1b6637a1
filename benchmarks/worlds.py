"""Simulated hotels of any size for the benchmarks, and what happens in them between two looks."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from uuid import UUID

from sync.demo.simulator import Code, World

CLIENT_TOKEN, ACCESS_TOKEN = "the-client-token", "the-access-token"
YEARS = timedelta(days=3 * 365)


def make_world(codes: int, vouchers: int, hotels: int = 1, span: timedelta = YEARS) -> World:
    """`vouchers` in all, shared out among `hotels` of one token, and codes spread evenly over them and `span`.

    A tenth of the codes are deleted, and every second one has a validity.
    """
    world, rng = World(lambda: datetime.now(UTC), client_token=CLIENT_TOKEN), random.Random(1)
    began = world.now() - span
    enterprises = [world.add_enterprise(f"Hotel {n}") for n in range(hotels)]
    world.add_token(ACCESS_TOKEN, name="token", enterprise_ids=[one.id for one in enterprises], portfolio=hotels > 1)
    services = [world.add_service(one.id, "Stay").id for one in enterprises]
    ids = [world.add_voucher(services[n % hotels], f"Voucher {n}", created_utc=began).id for n in range(vouchers)]
    world.codes.put(codes_of(world, rng, ids, codes, span))
    return world


def codes_of(world: World, rng: random.Random, voucher_ids: list[UUID], count: int, span: timedelta) -> Iterator[Code]:
    """As many codes of these vouchers, spread evenly over them and over the span that ends now."""
    began, seconds = world.now() - span, int(span.total_seconds()) - 3600
    for n in range(count):
        instant = began + timedelta(seconds=rng.randint(0, seconds))
        yield Code(
            id=world.new_id(),
            voucher_id=voucher_ids[n % len(voucher_ids)],
            value=f"{rng.getrandbits(60):015X}",
            validity_start_utc=instant if n % 2 else None,
            validity_end_utc=instant + timedelta(days=365) if n % 2 else None,
            created_utc=instant,
            updated_utc=instant,
            is_active=rng.random() > 0.1,
        )


def change(world: World, count: int) -> None:
    """`count` codes are deleted by the hotel's own users, now."""
    active = (code.id for code in world.codes.truth.values() if code.is_active)
    for code_id in list(islice(active, count)):
        world.delete_code(code_id)
