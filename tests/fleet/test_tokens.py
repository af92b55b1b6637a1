"""Tokens at rest: whoever has the key reads them, for the connection and the address that they were given for."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from sync.core.errors import SettingsError
from sync.fleet.tokens import TokenBox, TokenOf, new_key
from sync.settings import Settings

LAKE = TokenOf("lake", "https://api.mews.com", "access")
TOKEN = "C66EF7B239D24632943D115EDE9CB810"
KEY = "ZmVybmV0IGtleXMgYXJlIDMyIGJ5dGVzIG9mIGl0Li4="
OTHERS = {
    "connection": replace(LAKE, connection="hill"),
    "address": replace(LAKE, platform_address="https://evil.example"),
    "kind": replace(LAKE, kind="client"),
}


def test_a_token_is_read_as_it_was_given_and_looks_like_nothing_meanwhile() -> None:
    box = TokenBox([new_key()])
    first, second = box.encrypt(TOKEN, LAKE), box.encrypt(TOKEN, LAKE)
    assert box.decrypt(first, LAKE) == box.decrypt(second, LAKE) == TOKEN
    assert first != second
    assert TOKEN.encode() not in first


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_ciphertext_in_another_s_place_is_refused(other: TokenOf) -> None:
    box = TokenBox([new_key()])
    with pytest.raises(SettingsError, match=f"connection {other.connection}: .*another connection or address") as told:
        box.decrypt(box.encrypt(TOKEN, LAKE), other)
    assert TOKEN not in str(told.value)


def test_the_first_key_encrypts_and_each_reads() -> None:
    old, new = new_key(), new_key()
    of_old = TokenBox([old]).encrypt(TOKEN, LAKE)
    box = TokenBox([new, old])
    assert box.decrypt(of_old, LAKE) == TOKEN
    assert TokenBox([new]).decrypt(box.encrypt(TOKEN, LAKE), LAKE) == TOKEN


def test_a_key_that_does_not_fit_names_the_connection_and_the_next_step() -> None:
    ciphertext = TokenBox([new_key()]).encrypt(TOKEN, LAKE)
    with pytest.raises(SettingsError, match=r"connection lake: .*`voucher-sync connections rotate lake`"):
        TokenBox([new_key()]).decrypt(ciphertext, LAKE)
    with pytest.raises(SettingsError, match="connection lake: "):
        TokenBox([new_key()]).decrypt(b"no ciphertext at all", LAKE)


def test_without_a_key_it_is_said_how_to_make_one() -> None:
    with pytest.raises(SettingsError, match="`voucher-sync connections key`"):
        TokenBox([]).encrypt(TOKEN, LAKE)


def test_the_setting_takes_several_keys() -> None:
    keys = [new_key(), new_key()]
    assert Settings.model_validate({"sync_secret_key": " , ".join(keys)}).secret_keys == keys
    assert Settings().secret_keys == []


@pytest.mark.parametrize("value", ["", "short", f"{KEY},", f"{KEY} {KEY}", KEY[:-3] + "é=="])
def test_what_is_no_key_is_refused_without_being_quoted(value: str) -> None:
    with pytest.raises(ValidationError) as told:
        Settings.model_validate({"sync_secret_key": value})
    assert all("key" in one["msg"] or "empty" in one["msg"] for one in told.value.errors())
