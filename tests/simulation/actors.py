"""What people do: at the API, in the outbox and, as they never should, in the mirror."""

from collections.abc import Sequence
from datetime import timedelta
from random import Random
from uuid import UUID

import msgspec

from sync.demo.simulator import Code, OtherUsers, Voucher
from tests.daemon.stress import BY_ID, queue
from tests.support.flows import add_voucher_to, numbered
from tests.support.mirror import ACCESS_TOKEN, Mirror

MARK = "MARKED"
"""In every value that is queued: it may be printed nowhere."""
OURS, OLD = 3, 150
"""So many vouchers are the outbox's, each with so many codes at first."""
BULK = 1100
"""More than a page holds."""


class Actors:
    """Each method is one thing that they do; `operations` counts what it changes.

    The vouchers `ours` are changed through the outbox, and by others only in their codes' validity. `blind` are the
    codes that no window of a pull can show as they are.
    """

    def __init__(self, mirror: Mirror, rng: Random) -> None:
        self.operations = 0
        self.blind: set[UUID] = set()
        self._mirror = mirror
        self._world = mirror.world
        self._rng = rng
        self.ours = [mirror.add_voucher(f"Ours {number}") for number in range(OURS)]
        self._doomed: list[Code] = []
        for number, voucher in enumerate(self.ours):
            self._doomed += mirror.add_codes(voucher, numbered(OLD, f"OLD-{MARK}-{number}"))
        for days_old in (1, 400):
            voucher = mirror.add_voucher(f"Theirs {days_old}", days_old=days_old)
            mirror.add_codes(voucher, numbered(50, f"{days_old}"), days_old=days_old / 2)
        self._our_ids = frozenset(voucher.id for voucher in self.ours)
        self._others = OtherUsers(mirror.world, rng.getrandbits(32), spared=self._our_ids)
        self._token = mirror.world.tokens[ACCESS_TOKEN]
        self._hotels: set[UUID] = set()
        self._fresh: list[tuple[UUID, str]] = []

    # At the API

    def change(self, steps: int) -> None:
        """Other users add, delete and edit codes, and create and deactivate vouchers."""
        for _ in range(steps):
            self._others.step()
        self.operations += steps

    def edit_ours(self, count: int) -> None:
        """They change the validity of codes that the outbox is about to delete, or has just added."""
        codes = [one for one in self._world.codes.truth.values() if one.voucher_id in self._our_ids and one.is_active]
        for code in self._rng.sample(codes, min(count, len(codes))):
            self._world.edit_code(code.id, validity_end_utc=self._world.now() + timedelta(days=30))
            self.operations += 1

    def import_many(self) -> None:
        """They import more codes at once than a page holds."""
        self._world.add_codes(self._their_voucher().id, numbered(BULK, f"{self._rng.random()}"))
        self.operations += 1

    def change_unseen(self, seconds: float) -> None:
        """They delete a code, and readers learn of it so much later, by the API's clock."""
        if codes := self._their_codes():
            deleted = msgspec.structs.replace(self._rng.choice(codes), is_active=False, updated_utc=self._world.now())
            self._world.codes.put([deleted], hidden_for_s=seconds)
            self.operations += 1

    def change_behind_the_windows(self) -> None:
        """A code appears without a stamp, and one vanishes without a trace."""
        self.blind |= {code.id for code in self._world.add_codes(self._their_voucher().id, ["-"], updated_utc=None)}
        self.operations += 1
        if codes := self._their_codes():
            code = self._rng.choice(codes)
            self._world.hard_delete_code(code.id)
            self.blind.add(code.id)
            self.operations += 1

    def open_hotel(self) -> None:
        """The token sees one more hotel, with old codes."""
        hotel = self._world.add_enterprise(f"Hotel {len(self._hotels)}")
        service = self._world.add_service(hotel.id, "Stay")
        voucher = add_voucher_to(self._mirror, service, f"Theirs {len(self._hotels)}", days_old=200)
        self._mirror.add_codes(voucher, numbered(30), days_old=100)
        self._hotels.add(hotel.id)
        self._token.portfolio = True
        self._token.enterprise_ids.add(hotel.id)
        self.operations += 1

    def show_hotels(self, *, are_seen: bool) -> None:
        """The token sees all or none of the hotels that came later."""
        moved = self._hotels - self._token.enterprise_ids if are_seen else self._hotels & self._token.enterprise_ids
        self._token.enterprise_ids ^= moved
        self.operations += len(moved)

    def revoke(self, *, is_revoked: bool) -> None:
        """The token becomes invalid, or valid again."""
        self.operations += is_revoked == (ACCESS_TOKEN in self._world.tokens)
        if is_revoked:
            self._world.tokens.pop(ACCESS_TOKEN, None)
        else:
            self._world.tokens[ACCESS_TOKEN] = self._token

    # In the outbox

    async def queue_adds(self, voucher: int, count: int) -> None:
        """Somebody wants new codes."""
        fresh = numbered(count, f"NEW-{MARK}-{self._rng.getrandbits(40)}")
        self._fresh += [(self.ours[voucher].id, value) for value in fresh]
        await queue(self._mirror, "add", self.ours[voucher].id, fresh)
        self.operations += count

    async def queue_deletes(self, count: int, *, by_id: bool, anew: bool) -> None:
        """Somebody deletes codes that stood before, and perhaps has their values added `anew`."""
        for _ in range(min(count, len(self._doomed))):
            code = self._doomed.pop(self._rng.randrange(len(self._doomed)))
            if by_id:
                await self._mirror.execute(
                    "INSERT INTO mews.voucher_code_outbox (operation, voucher_code_id, note) "
                    "VALUES ('delete', :code, :note)",
                    code=code.id, note=BY_ID,
                )  # fmt: skip
            else:
                await queue(self._mirror, "delete", code.voucher_id, [code.value])
            if anew:
                await queue(self._mirror, "add", code.voucher_id, [code.value])
            self.operations += 1 + anew

    async def regret(self, count: int) -> None:
        """Somebody deletes what was queued as new, whatever has become of it."""
        for _ in range(min(count, len(self._fresh))):
            voucher_id, value = self._fresh.pop(self._rng.randrange(len(self._fresh)))
            await queue(self._mirror, "delete", voucher_id, [value])
            self.operations += 1

    # In the mirror

    async def plant_drift(self) -> None:
        """Somebody changes a row, deletes one and invents one."""
        mirrored = {row["id"] for row in await self._mirror.rows("SELECT id FROM mews.voucher_codes")}
        codes = [code.id for code in self._their_codes() if code.id in mirrored]
        invented = UUID(int=self._rng.getrandbits(128))
        wrong, gone = self._rng.sample(codes, 2) if len(codes) > 1 else (invented, invented)
        await self._mirror.execute(
            "INSERT INTO mews.voucher_codes (id, voucher_id, value, is_active, connection) "
            "VALUES (:id, :voucher, 'INVENTED', true, 'default')",
            id=invented,
            voucher=self._their_voucher().id,
        )
        await self._mirror.execute("UPDATE mews.voucher_codes SET value = 'WRONG' WHERE id = :id", id=wrong)
        await self._mirror.execute("DELETE FROM mews.voucher_codes WHERE id = :id", id=gone)
        self.blind |= {wrong, gone, invented}
        self.operations += 3

    def _their_voucher(self) -> Voucher:
        return self._rng.choice([one for one in self._world.vouchers.values() if one.id not in self._our_ids])

    def _their_codes(self) -> Sequence[Code]:
        codes = self._world.codes.truth.values()
        return [code for code in codes if code.voucher_id not in self._our_ids and code.id not in self.blind]
