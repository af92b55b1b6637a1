"""Tokens at rest: encrypted with the first key of SYNC_SECRET_KEY, and read with any of them.

A ciphertext holds whose token it is and for which address: put into another row, or behind another address, it is
refused, so that who can write to the database cannot have one hotel's token sent elsewhere. `cryptography` is loaded by
the first token; who has none in the database does not wait for it.
"""

import hmac
import json
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from shlex import quote
from typing import TYPE_CHECKING, Literal

from sync.core.errors import SettingsError

if TYPE_CHECKING:
    from cryptography.fernet import Fernet, MultiFernet

Kind = Literal["access", "client"]

NO_KEY = (
    "SYNC_SECRET_KEY is not set, and tokens in the database are encrypted: make a key once with `voucher-sync "
    "connections key`, keep it as you keep the tokens, and set SYNC_SECRET_KEY, or SYNC_SECRET_KEY_FILE, to it "
    "wherever voucher-sync runs"
)


NAME_OF_KEY = "key:"
"""What the name of a key begins with."""


@dataclass(frozen=True, slots=True)
class TokenOf:
    """Whose token it is: a connection's name, its platform address, and which of its two."""

    connection: str
    platform_address: str
    kind: Kind


class TokenBox:
    """Encrypts tokens and reads them again; `keys` as in SYNC_SECRET_KEY, of which the first encrypts."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = keys

    def encrypt(self, token: str, of: TokenOf) -> bytes:
        """The ciphertext, another one each time. `SettingsError` where there is no key."""
        words = [of.connection, of.platform_address, of.kind, token]
        return self._fernet.encrypt(json.dumps(words).encode())

    def decrypt(self, ciphertext: bytes, of: TokenOf) -> str:
        """The token. `SettingsError`, which names the connection, where no key reads it or it is another's."""
        from cryptography.fernet import InvalidToken

        try:
            words = json.loads(self._fernet.decrypt(ciphertext))
        except InvalidToken:
            raise SettingsError(no_key_reads(of)) from None
        *whose, token = words
        if not hmac.compare_digest(json.dumps(whose), json.dumps([of.connection, of.platform_address, of.kind])):
            raise SettingsError(
                f"connection {of.connection}: its {of.kind} token was encrypted for another connection or address, so "
                f"somebody has changed the database: find out who, then give the token again with `voucher-sync "
                f"connections rotate {quote(of.connection)}`"
            )
        return str(token)

    def reencrypted(self, ciphertext: bytes) -> bytes | None:
        """The same token, of whomever it is, encrypted with the first key; None where no key reads it."""
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet.rotate(ciphertext)
        except InvalidToken:
            return None

    @cached_property
    def key_names(self) -> list[str]:
        """What others may know of each key: a name, which is another one for any other key."""
        keys = (urlsafe_b64decode(key) for key in self._keys)
        return [NAME_OF_KEY + blake2b(key, digest_size=4).hexdigest() for key in keys]

    def keys_of(self, ciphertexts: Iterable[bytes]) -> set[str] | None:
        """The names of the keys that these were encrypted with; None where one is read by no key.

        It looks at their signatures: there may be thousands, of which others read the most.
        """
        found = [self._key_of(one) for one in ciphertexts]
        return None if None in found else {name for name in found if name is not None}

    def _key_of(self, ciphertext: bytes) -> str | None:
        from cryptography.fernet import InvalidToken

        for name, fernet in zip(self.key_names, self._fernets, strict=True):
            with suppress(InvalidToken):
                fernet.extract_timestamp(ciphertext)
                return name
        return None

    @cached_property
    def _fernet(self) -> "MultiFernet":
        if not self._keys:
            raise SettingsError(NO_KEY)
        from cryptography.fernet import MultiFernet

        return MultiFernet(self._fernets)

    @cached_property
    def _fernets(self) -> "list[Fernet]":
        from cryptography.fernet import Fernet

        return [Fernet(key) for key in self._keys]


def no_key_reads(of: TokenOf) -> str:
    """What is told of a token that no key reads."""
    return (
        f"connection {of.connection}: no key of SYNC_SECRET_KEY reads its {of.kind} token: add the key that it was "
        f"encrypted with, behind a comma, or give the token again with `voucher-sync connections rotate "
        f"{quote(of.connection)}`"
    )


def new_key() -> str:
    """A new key for SYNC_SECRET_KEY."""
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()
