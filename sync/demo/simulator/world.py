"""The simulated API's memory, and what its other users do to it. No I/O and no rules of the API in here."""

import random
from collections.abc import Iterable
from datetime import datetime
from enum import Enum, auto
from typing import Final, Literal
from uuid import UUID

import msgspec

from sync.demo.simulator.codes import CodeStore
from sync.demo.simulator.entities import (
    Assignment,
    Code,
    Enterprise,
    Operation,
    Service,
    ServiceType,
    Token,
    Voucher,
    VoucherType,
)
from sync.demo.simulator.instants import Clock, whole_seconds


class Default(Enum):
    """Stands for an argument that was not given where None means the API's null."""

    NOW = auto()
    KEEP = auto()


NOW: Final = Default.NOW
KEEP: Final = Default.KEEP
MaybeNow = datetime | Literal[Default.NOW] | None


class World:
    """Enterprises, services, vouchers, codes and tokens, with a method for each thing that people do to them."""

    def __init__(self, clock: Clock, *, client_token: str, seed: int = 0) -> None:
        self.clock = clock
        self.client_token = client_token
        self.rng = random.Random(seed)
        self.tokens: dict[str, Token] = {}
        self.enterprises: dict[UUID, Enterprise] = {}
        self.services: dict[UUID, Service] = {}
        self.vouchers: dict[UUID, Voucher] = {}
        self.assignments: dict[UUID, list[Assignment]] = {}
        self.codes = CodeStore(clock)

    def now(self) -> datetime:
        """The instant that a change made now is stored with."""
        return whole_seconds(self.clock())

    def new_id(self) -> UUID:
        """A fresh id, the same in every run with the same seed."""
        return UUID(int=self.rng.getrandbits(128), version=4)

    # Who may see what

    def add_token(
        self,
        text: str,
        *,
        name: str,
        enterprise_ids: Iterable[UUID] = (),
        portfolio: bool = False,
        operations: Iterable[Operation] = tuple(Operation),
    ) -> Token:
        """A new AccessToken. `name` stands for it in records and violations, so that its text stays out of them."""
        token = Token(text=text, name=name, portfolio=portfolio, enterprise_ids=set(), operations=set(operations))
        self.tokens[text] = token
        for enterprise_id in enterprise_ids:
            self.grant(text, enterprise_id)
        return token

    def grant(self, access_token: str, enterprise_id: UUID) -> None:
        """Lets a token see an enterprise."""
        token = self.tokens[access_token]
        if not token.portfolio and token.enterprise_ids - {enterprise_id}:
            raise ValueError(f"the token {token.name!r} is not a portfolio token and belongs to another enterprise")
        token.enterprise_ids.add(self.enterprises[enterprise_id].id)

    def withdraw(self, access_token: str, enterprise_id: UUID) -> None:
        """Takes an enterprise out of a token's scope."""
        self.tokens[access_token].enterprise_ids.discard(enterprise_id)

    def permit(self, access_token: str, operations: Iterable[Operation]) -> None:
        """Lets a token do these operations and no others."""
        self.tokens[access_token].operations = set(operations)

    def revoke(self, access_token: str) -> None:
        """Makes a token invalid."""
        del self.tokens[access_token]

    # What hotels set up

    def add_enterprise(self, name: str, *, time_zone: str = "Europe/Prague", updated_utc: MaybeNow = NOW) -> Enterprise:
        """A new hotel; no token sees it yet."""
        updated_utc = self._instant(updated_utc)
        enterprise = Enterprise(
            id=self.new_id(),
            name=name,
            time_zone=time_zone,
            created_utc=updated_utc or self.now(),
            updated_utc=updated_utc,
        )
        self.enterprises[enterprise.id] = enterprise
        return enterprise

    def add_service(
        self,
        enterprise_id: UUID,
        name: str,
        *,
        carries_vouchers: bool = True,
        service_type: ServiceType = "Bookable",
        is_active: bool = True,
        updated_utc: MaybeNow = NOW,
    ) -> Service:
        """A new service of a hotel."""
        updated_utc = self._instant(updated_utc)
        service = Service(
            id=self.new_id(),
            enterprise_id=self.enterprises[enterprise_id].id,
            name=name,
            type=service_type,
            carries_vouchers=carries_vouchers,
            is_active=is_active,
            created_utc=updated_utc or self.now(),
            updated_utc=updated_utc,
        )
        self.services[service.id] = service
        return service

    def add_voucher(
        self,
        service_id: UUID,
        name: str,
        *,
        created_utc: MaybeNow = NOW,
        updated_utc: MaybeNow = NOW,
        voucher_type: VoucherType = "Public",
        rate_ids: Iterable[UUID] = (),
    ) -> Voucher:
        """A new voucher, updated when it was created unless told otherwise."""
        service = self.services[service_id]
        if not service.carries_vouchers:
            raise ValueError(f"the service {service.name!r} cannot carry vouchers")
        created = self._instant(created_utc) or self.now()
        voucher = Voucher(
            id=self.new_id(),
            service_id=service_id,
            enterprise_id=service.enterprise_id,
            name=name,
            type=voucher_type,
            created_utc=created,
            updated_utc=created if updated_utc is NOW else self._instant(updated_utc),
        )
        self.put_voucher(voucher)
        self.assignments[voucher.id] = [
            Assignment(id=self.new_id(), voucher_id=voucher.id, rate_id=rate_id) for rate_id in rate_ids
        ]
        return voucher

    def put_voucher(self, voucher: Voucher) -> None:
        """Stores a voucher as it is: for fields that `add_voucher` leaves alone, and for changes such as a new name."""
        self.vouchers[voucher.id] = voucher

    def deactivate_voucher(self, voucher_id: UUID) -> Voucher:
        """Deletes a voucher softly; its codes stay as they are."""
        voucher = msgspec.structs.replace(self.vouchers[voucher_id], is_active=False, updated_utc=self.now())
        self.put_voucher(voucher)
        return voucher

    # Codes

    def add_codes(
        self,
        voucher_id: UUID,
        values: Iterable[str | None],
        *,
        validity_start_utc: datetime | None = None,
        validity_end_utc: datetime | None = None,
        created_utc: MaybeNow = NOW,
        updated_utc: MaybeNow = NOW,
        is_active: bool = True,
    ) -> list[Code]:
        """New codes that share everything but their values, as a bulk import makes them."""
        created, updated = self._instant(created_utc), self._instant(updated_utc)
        codes = [
            Code(
                id=self.new_id(),
                voucher_id=self.vouchers[voucher_id].id,
                value=value,
                validity_start_utc=self._instant(validity_start_utc),
                validity_end_utc=self._instant(validity_end_utc),
                created_utc=created,
                updated_utc=updated,
                is_active=is_active,
            )
            for value in values
        ]
        self.codes.put(codes)
        return codes

    def edit_code(
        self,
        code_id: UUID,
        *,
        value: str | Literal[Default.KEEP] | None = KEEP,
        validity_start_utc: datetime | Literal[Default.KEEP] | None = KEEP,
        validity_end_utc: datetime | Literal[Default.KEEP] | None = KEEP,
        updated_utc: MaybeNow = NOW,
    ) -> Code:
        """Changes a code in place, which the API offers to nobody but the hotel's own users can do."""
        given = {"value": value, "validity_start_utc": validity_start_utc, "validity_end_utc": validity_end_utc}
        changes = {
            name: whole_seconds(change) if isinstance(change, datetime) else change
            for name, change in given.items()
            if change is not KEEP
        }
        code = msgspec.structs.replace(self.codes.truth[code_id], **changes, updated_utc=self._instant(updated_utc))
        self.codes.put([code])
        return code

    def delete_code(self, code_id: UUID, *, updated_utc: MaybeNow = NOW) -> Code:
        """Deletes a code softly: it stays readable, inactive and with a new UpdatedUtc."""
        updated = self._instant(updated_utc)
        code = msgspec.structs.replace(self.codes.truth[code_id], is_active=False, updated_utc=updated)
        self.codes.put([code])
        return code

    def hard_delete_code(self, code_id: UUID) -> None:
        """Makes a code vanish without a trace, which no window can show."""
        self.codes.remove(code_id)

    def codes_visible_to(self, access_token: str) -> dict[UUID, Code]:
        """The truth that a mirror of this token has to arrive at: every code in its scope, deleted ones included."""
        scope = self.tokens[access_token].enterprise_ids
        inside = {voucher.id for voucher in self.vouchers.values() if voucher.enterprise_id in scope}
        return {code.id: code for code in self.codes.truth.values() if code.voucher_id in inside}

    def _instant(self, instant: MaybeNow) -> datetime | None:
        if instant is NOW:
            return self.now()
        return None if instant is None else whole_seconds(instant)
