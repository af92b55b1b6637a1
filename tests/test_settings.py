"""Settings: where they come from, what each is without a word, and how a wrong one is told."""

import os
import time
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest
from pydantic import SecretStr

from sync import setting_sources
from sync.service.status import facts
from sync.settings import IN_THE_FUTURE, Settings, load_settings
from tests.support.own_settings import SECRET_ADDRESSES, SECRETS, Set, complaint, only_set_here

DEFAULTS = {
    "DATABASE_URL": None,
    "SYNC_LISTEN_URL": None,
    "MEWS_PLATFORM_ADDRESS": "https://api.mews.com",
    "MEWS_CLIENT_TOKEN": None,
    "MEWS_ACCESS_TOKEN": None,
    "SYNC_SECRET_KEY": None,
    "MEWS_CLIENT": f"voucher-sync {version('voucher-sync')}",
    "SYNC_DATABASE_POOL": 5,
    "SYNC_PULL_INTERVAL_S": 60,
    "SYNC_OVERLAP_S": 600,
    "SYNC_DISCOVERY_INTERVAL_S": 600,
    "SYNC_AUDIT_CRON": "0 3 * * *",
    "SYNC_BACKFILL_FROM": None,
    "SYNC_RATE_LIMIT_REQUESTS": 200,
    "SYNC_RATE_LIMIT_WINDOW_S": 30,
    "SYNC_PLATFORM_CALLS_IN_FLIGHT": 250,
    "SYNC_PLATFORM_CALLS_PER_S": 500,
    "SYNC_REQUEST_TIMEOUT_S": 60,
    "SYNC_CLOCK_TOLERANCE_S": 86_400,
    "SYNC_LEASE_S": 30,
    "SYNC_STATE_DIR": None,
    "SYNC_HTTP_BIND": "127.0.0.1:8321",
    "SYNC_HTTP_TOKEN": None,
    "SYNC_INTEGRATION_BIND": "",
    "SYNC_INTEGRATION_SECRET": None,
    "SYNC_ALERT_WEBHOOK_URL": None,
    "SYNC_ALERT_WEBHOOK_SECRET": None,
    "SYNC_PING_URL": None,
    "SYNC_PING_TOKEN": None,
    "SYNC_LOG_FORMAT": None,
    "SYNC_LOG_LEVEL": "info",
}
"""Of the connection and of reading."""
OWN = {
    "SYNC_PUSH_POLL_S": 5,
    "SYNC_SETTLE_AFTER_S": 15,
    "SYNC_DELETE_BRAKE_SHARE": 0.2,
    "SYNC_DELETE_BRAKE_MIN": 100,
    "SYNC_DELETE_BRAKE_WINDOW_S": 600,
    "SYNC_DELETE_BRAKE_LONG_SHARE": 0.5,
    "SYNC_DELETE_BRAKE_LONG_WINDOW_S": 86_400,
    "SYNC_OUTBOX_KEEP_DAYS": 90,
    "SYNC_HISTORY": "on",
    "SYNC_AUDIT_MAX_LOSS": 0.05,
    "SYNC_MAX_RESPONSE_MB": 32,
}
"""Of the outbox, the audit and the client."""


@pytest.fixture(autouse=True)
def set_(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Set:
    """Sets variables; there are no others, and no `.env` but the test's own."""
    return only_set_here(monkeypatch, tmp_path)


def value(name: str) -> object:
    """A setting, out of its wrapping."""
    given = getattr(load_settings(), name.lower())
    return given.get_secret_value() if isinstance(given, SecretStr) else given


def test_names_and_defaults_are_those_that_users_rely_on() -> None:
    settings = load_settings()
    defaults = DEFAULTS | OWN
    assert {name: getattr(settings, name.lower()) for name in defaults} == defaults
    assert {name.upper() for name in Settings.model_fields} == set(defaults)
    assert {name: defaults[name] for name in facts.DEFAULTS} == facts.DEFAULTS


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_shows_in_no_representation(set_: Set, name: str) -> None:
    set_(**{name: "hush-hush-hush-hush"})
    settings = load_settings()
    assert isinstance(getattr(settings, name.lower()), SecretStr)
    assert value(name) == "hush-hush-hush-hush"
    assert "hush-hush-hush-hush" not in f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"


@pytest.mark.parametrize("name", SECRET_ADDRESSES)
def test_so_does_no_address_that_lets_in_whoever_knows_it(set_: Set, name: str) -> None:
    set_(**{name: " https://alerts.example/hush-hush\n"})
    settings = load_settings()
    assert value(name) == "https://alerts.example/hush-hush"
    assert "hush-hush" not in f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"


# Where they come from


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize(
    "content", ["from-a-file-of-its-own", "from-a-file-of-its-own\n", " \tfrom-a-file-of-its-own \r\n\n"]
)
def test_a_secret_may_lie_in_a_file_with_or_without_a_line_end(
    set_: Set, tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / "secret").write_text(content)
    set_(**{f"{name}_FILE": tmp_path / "secret"})
    assert value(name) == "from-a-file-of-its-own"


def test_a_file_that_is_not_there_is_named(set_: Set, tmp_path: Path) -> None:
    set_(MEWS_CLIENT_TOKEN_FILE=tmp_path / "missing")
    assert complaint() == f"MEWS_CLIENT_TOKEN_FILE: {tmp_path}/missing cannot be read: No such file or directory"


def test_a_directory_is_no_file(set_: Set, tmp_path: Path) -> None:
    set_(MEWS_CLIENT_TOKEN_FILE=tmp_path)
    assert "cannot be read: Is a directory" in complaint()


def test_the_dot_env_file_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('MEWS_CLIENT_TOKEN="from-.env"\nSYNC_OVERLAP_S=7\nSOMETHING_ELSE=1\n')
    assert value("MEWS_CLIENT_TOKEN") == "from-.env"
    assert value("SYNC_OVERLAP_S") == 7


def test_a_pipe_into_which_nobody_writes_is_told_and_not_waited_for_for_ever(
    set_: Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setting_sources, "PIPE_S", 0.05)
    os.mkfifo(tmp_path / "token")
    set_(MEWS_CLIENT_TOKEN_FILE=tmp_path / "token")
    assert complaint().startswith(f"MEWS_CLIENT_TOKEN_FILE: {tmp_path}/token cannot be read: nobody writes into it")


@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_a_secret_of_dot_env_that_looks_like_a_variable_is_itself(tmp_path: Path, quote: str) -> None:
    secret = "a$HOME-${HOME}-${missing:-b}"
    (tmp_path / ".env").write_text(f"MEWS_CLIENT_TOKEN={quote}{secret}{quote}\n")
    assert value("MEWS_CLIENT_TOKEN") == secret


def test_the_environment_wins_over_a_named_file_and_that_over_dot_env(set_: Set, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MEWS_CLIENT_TOKEN=from-.env\n")
    assert value("MEWS_CLIENT_TOKEN") == "from-.env"
    (tmp_path / "secret").write_text("from-a-file-of-its-own")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MEWS_CLIENT_TOKEN_FILE", str(tmp_path / "secret"))
        assert value("MEWS_CLIENT_TOKEN") == "from-a-file-of-its-own"
    set_(MEWS_CLIENT_TOKEN="from-the-environment")
    assert value("MEWS_CLIENT_TOKEN") == "from-the-environment"


def test_names_may_be_in_lower_case(set_: Set) -> None:
    set_(sync_overlap_s="7")
    assert value("SYNC_OVERLAP_S") == 7


# What is right


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("MEWS_PLATFORM_ADDRESS", "https://api.mews-demo.com/", "https://api.mews-demo.com"),
        ("MEWS_PLATFORM_ADDRESS", "https://proxy.hotel.example:8443", "https://proxy.hotel.example:8443"),
        ("MEWS_PLATFORM_ADDRESS", "http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("MEWS_PLATFORM_ADDRESS", "http://localhost:8080", "http://localhost:8080"),
        ("MEWS_PLATFORM_ADDRESS", " https://api.mews.com/\n", "https://api.mews.com"),
        ("MEWS_PLATFORM_ADDRESS", "https://h\u00f6tel.example", "https://h\u00f6tel.example"),
        ("MEWS_PLATFORM_ADDRESS", "http://[::1]:8080", "http://[::1]:8080"),
        ("SYNC_PULL_INTERVAL_S", "0.5", 0.5),
        ("SYNC_OVERLAP_S", "86400", 86_400),
        ("SYNC_AUDIT_CRON", "*/5 2-4 * * mon", "*/5 2-4 * * mon"),
        ("SYNC_BACKFILL_FROM", "2024-05-01", datetime(2024, 5, 1, tzinfo=UTC)),
        ("SYNC_BACKFILL_FROM", " 2024-05-01\n", datetime(2024, 5, 1, tzinfo=UTC)),
        ("SYNC_BACKFILL_FROM", "2024-05-01T12:00:00", datetime(2024, 5, 1, 12, tzinfo=UTC)),
        ("SYNC_BACKFILL_FROM", "2024-05-01T12:00:00+02:00", datetime(2024, 5, 1, 10, tzinfo=UTC)),
        ("SYNC_HTTP_BIND", "", ""),
        ("SYNC_HTTP_BIND", "0.0.0.0:80", "0.0.0.0:80"),
        ("SYNC_HTTP_BIND", "[::]:80", "[::]:80"),
        ("SYNC_LOG_FORMAT", "console", "console"),
        ("SYNC_LOG_LEVEL", "debug", "debug"),
    ],
)
def test_what_is_accepted(set_: Set, name: str, given: str, expected: object) -> None:
    set_(**{name: given})
    assert value(name) == expected


def test_an_instant_without_a_zone_is_in_utc_wherever_this_machine_is(set_: Set) -> None:
    set_(SYNC_BACKFILL_FROM="2024-05-01")
    with pytest.MonkeyPatch.context() as far_away:
        far_away.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        backfill_from = load_settings().sync_backfill_from
    time.tzset()
    assert backfill_from == datetime(2024, 5, 1, tzinfo=UTC)


@pytest.mark.parametrize(("ahead", "is_told"), [(timedelta(minutes=5), True), (timedelta(minutes=-5), False)])
def test_a_backfill_that_begins_in_the_future_is_told(set_: Set, ahead: timedelta, is_told: bool) -> None:
    told: list[str] = []
    set_(SYNC_BACKFILL_FROM=(datetime.now(UTC) + ahead).isoformat())
    assert load_settings(told.append).sync_backfill_from is not None
    assert told == ([IN_THE_FUTURE] if is_told else [])
