"""The hotels' own people, who change the world behind the client's back."""

import random
from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from sync.demo.simulator.entities import Code, Voucher
from sync.demo.simulator.seed import new_value
from sync.demo.simulator.world import World

EDITED_SHARE = 0.25


class OtherUsers:
    """Performs random changes, the same for the same seed and world. The caller decides when.

    `spared`: vouchers that `step` leaves alone.
    """

    def __init__(self, world: World, seed: int, *, spared: Collection[UUID] = ()) -> None:
        self._world = world
        self._rng = random.Random(seed)
        self._spared = frozenset(spared)

    def step(self) -> str:
        """Changes one thing and says in a line what, without any code's value."""
        change = self._rng.choices(
            (self._add, self._delete, self._edit, self._new_voucher, self._deactivate), weights=(50, 22, 20, 6, 2)
        )[0]
        return change()

    def touch(self, voucher_id: UUID, value: str) -> str:
        """Deletes, edits or adds a code of this value: somebody else has the same in mind as the client."""
        voucher = self._world.vouchers[voucher_id]
        codes = [
            code for code in self._world.codes.truth.values() if (code.voucher_id, code.value) == (voucher_id, value)
        ]
        active = [code for code in codes if code.is_active]
        if not active:
            self._world.add_codes(voucher_id, [value])
            return f"1 code of '{voucher.name}' added"
        code = self._rng.choice(active)
        if self._rng.random() < EDITED_SHARE:
            self._world.edit_code(code.id, validity_end_utc=self._world.now() + timedelta(days=30))
            return f"1 code of '{voucher.name}' edited"
        self._world.delete_code(code.id)
        return f"1 code of '{voucher.name}' deleted"

    def _add(self) -> str:
        voucher = self._some_voucher()
        return f"{self._add_codes(voucher, most=20)} added to '{voucher.name}'"

    def _delete(self) -> str:
        voucher = self._some_voucher()
        codes = self._some_codes(voucher.id, most=5)
        if not codes:
            return self._add()
        for code in codes:
            self._world.delete_code(code.id)
        return f"{_codes(len(codes))} of '{voucher.name}' deleted"

    def _edit(self) -> str:
        voucher = self._some_voucher()
        codes = self._some_codes(voucher.id, most=3)
        if not codes:
            return self._add()
        end = self._world.now() + timedelta(days=self._rng.randint(30, 365))
        for code in codes:
            self._world.edit_code(code.id, validity_end_utc=end)
        return f"{_codes(len(codes))} of '{voucher.name}' now valid until {end:%Y-%m-%d}"

    def _new_voucher(self) -> str:
        service_id = self._some_voucher().service_id
        voucher = self._world.add_voucher(service_id, f"Flash sale {self._world.now():%d %B %Y}")
        return f"new voucher '{voucher.name}' with {self._add_codes(voucher, most=200)}"

    def _deactivate(self) -> str:
        if len(self._active_vouchers()) == 1:
            # Without an active voucher there would be nothing left to change.
            return self._new_voucher()
        voucher = self._some_voucher()
        self._world.deactivate_voucher(voucher.id)
        return f"voucher '{voucher.name}' deleted"

    def _add_codes(self, voucher: Voucher, *, most: int) -> str:
        count = self._rng.randint(1, most)
        self._world.add_codes(voucher.id, [new_value(self._rng, voucher.name) for _ in range(count)])
        return _codes(count)

    def _active_vouchers(self) -> list[Voucher]:
        return [
            voucher for voucher in self._world.vouchers.values() if voucher.is_active and voucher.id not in self._spared
        ]

    def _some_voucher(self) -> Voucher:
        return self._rng.choice(self._active_vouchers())

    def _some_codes(self, voucher_id: UUID, *, most: int) -> list[Code]:
        active = [code for code in self._world.codes.readable().of_voucher(voucher_id) if code.is_active]
        return self._rng.sample(active, min(len(active), self._rng.randint(1, most)))


def _codes(count: int) -> str:
    return "1 code" if count == 1 else f"{count} codes"
