"""What was deleted here is read back until the API shows it, of the vouchers that it shows."""

from sync.demo.simulator import Operation
from sync.mirror.read_back import read_deleted
from tests.support.flows import add_hotel, add_voucher_to, ids
from tests.support.mirror import ACCESS_TOKEN, Mirror

NOTED = "UPDATE mews.voucher_codes SET is_active = false, delete_noted_at = now()"


async def test_a_voucher_that_is_left_out_is_not_asked_for_again_and_again(mirror: Mirror) -> None:
    hotel, service = add_hotel(mirror, "Hotel B")
    stays, goes = mirror.add_voucher(), [add_voucher_to(mirror, service, f"{number}") for number in range(3)]
    for voucher in (stays, *goes):
        mirror.add_codes(voucher, ["A"])
    await mirror.once()
    await mirror.execute(NOTED)
    mirror.world.withdraw(ACCESS_TOKEN, hotel.id)
    await mirror.discover()
    before = len(mirror.requests())
    assert await read_deleted(mirror.connection) == 1
    (request,) = mirror.requests(Operation.GET_CODES)[before:]
    assert (request.status, ids(request)) == (200, {stays.id})

    mirror.world.grant(ACCESS_TOKEN, hotel.id)
    await mirror.discover()
    assert await read_deleted(mirror.connection) == 4
