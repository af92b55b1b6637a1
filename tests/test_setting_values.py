"""A value that a setting cannot have is named in a line, with what to do and without the value."""

from datetime import timedelta
from pathlib import Path

import pytest

from sync.core.errors import SettingsError
from sync.settings import load_settings
from tests.support.own_settings import SECRETS, Set, complaint, only_set_here


@pytest.fixture(autouse=True)
def set_(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Set:
    """Sets variables; there are no others."""
    return only_set_here(monkeypatch, tmp_path)


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("MEWS_PLATFORM_ADDRESS", "http://api.mews.com", "only over https"),
        ("MEWS_PLATFORM_ADDRESS", "http://127.0.0.1.evil.example", "only over https"),
        ("MEWS_PLATFORM_ADDRESS", "api.mews.com", "such as https://api.mews.com"),
        ("MEWS_PLATFORM_ADDRESS", "https://", "such as https://api.mews.com"),
        ("MEWS_PLATFORM_ADDRESS", "ftp://api.mews.com", "such as https://api.mews.com"),
        ("MEWS_PLATFORM_ADDRESS", "", "is set but empty"),
        ("MEWS_PLATFORM_ADDRESS", "https://api.mews.com/api/connector/v1", "without a path"),
        ("MEWS_PLATFORM_ADDRESS", "https://api.mews.com?x=1", "without a path"),
        ("MEWS_PLATFORM_ADDRESS", "https://api.mews.com#x", "without a path"),
        ("MEWS_PLATFORM_ADDRESS", "https://xn--", "no name that there can be"),
        ("MEWS_PLATFORM_ADDRESS", "https://a b", "no name that there can be"),
        ("MEWS_PLATFORM_ADDRESS", "https://..com", "no name that there can be"),
        ("MEWS_PLATFORM_ADDRESS", "https://\u2024com", "no name that there can be"),
        ("MEWS_PLATFORM_ADDRESS", f"https://{'x' * 64}.com", "no name that there can be"),
        ("MEWS_CLIENT", "", "is set but empty"),
        ("MEWS_CLIENT", " ", "is set but empty"),
        ("SYNC_STATE_DIR", " ", "is set but empty"),
        ("DATABASE_URL", " \t", "is set but empty"),
        ("SYNC_RATE_LIMIT_REQUESTS", "9" * 400, "less than or equal to"),
        ("SYNC_DELETE_BRAKE_MIN", "9" * 400, "less than or equal to"),
        ("SYNC_BACKFILL_FROM", "0001-01-01T00:00:00+14:00", "beyond the years"),
        ("SYNC_BACKFILL_FROM", "9999-12-31T23:59:59-14:00", "beyond the years"),
        ("SYNC_BACKFILL_FROM", "0024-01-31", "see the year"),
        ("SYNC_PULL_INTERVAL_S", "0", "greater than 0"),
        ("SYNC_PULL_INTERVAL_S", "-1", "greater than 0"),
        ("SYNC_PULL_INTERVAL_S", "a minute", "valid number"),
        ("SYNC_PULL_INTERVAL_S", "", "is set but empty"),
        ("SYNC_OVERLAP_S", "0", "greater than or equal to 1"),
        ("SYNC_OVERLAP_S", "86401", "less than or equal to 86400"),
        ("SYNC_OVERLAP_S", "1.5", "valid integer"),
        ("SYNC_DISCOVERY_INTERVAL_S", "0", "greater than 0"),
        ("SYNC_AUDIT_CRON", "every day", "expected 5"),
        ("SYNC_AUDIT_CRON", "99 3 * * *", "the minute must be 0 to 59"),
        ("SYNC_BACKFILL_FROM", "last year", "give one such as 2024-01-31"),
        ("SYNC_BACKFILL_FROM", "2024-02-30", "give one such as 2024-01-31"),
        ("SYNC_BACKFILL_FROM", "2024-01", "give one such as 2024-01-31"),
        ("SYNC_BACKFILL_FROM", "20240131", "give one such as 2024-01-31"),
        ("SYNC_RATE_LIMIT_REQUESTS", "0", "greater than or equal to 1"),
        ("SYNC_PLATFORM_CALLS_PER_S", "0", "greater than or equal to 1"),
        ("SYNC_RATE_LIMIT_WINDOW_S", "-30", "greater than 0"),
        ("SYNC_REQUEST_TIMEOUT_S", "0", "greater than 0"),
        ("SYNC_LEASE_S", "0.9", "greater than or equal to 1"),
        ("SYNC_LEASE_S", "nan", "Input should be"),
        ("SYNC_HTTP_BIND", "8321", "host:port"),
        ("SYNC_HTTP_BIND", ":8321", "host:port"),
        ("SYNC_HTTP_BIND", "127.0.0.1:http", "host:port"),
        ("SYNC_HTTP_BIND", "127.0.0.1:65536", "host:port"),
        ("SYNC_HTTP_BIND", "::1:8321", "in brackets"),
        ("SYNC_HTTP_BIND", "http://localhost:8321", "without http://"),
        ("SYNC_HTTP_TOKEN", "hush", "at least 16 characters"),
        ("SYNC_INTEGRATION_SECRET", "hush", "at least 16 characters"),
        ("SYNC_INTEGRATION_SECRET", "hush?hush-hush-hush", "openssl rand -hex 32"),
        ("SYNC_INTEGRATION_SECRET", "hush-hush-hush-100%", "openssl rand -hex 32"),
        ("SYNC_HTTP_BIND", "127.0.0.1:\uff18\uff13\uff12\uff11", "host:port"),
        ("SYNC_HTTP_BIND", "127.0.0.1:" + "9" * 5000, "host:port"),
        ("SYNC_PULL_INTERVAL_S", "\uff15", "valid number"),
        ("SYNC_PULL_INTERVAL_S", "1e400", "finite number"),
        ("SYNC_OVERLAP_S", "1e3", "valid integer"),
        ("SYNC_OVERLAP_S", "9" * 5000, "exceeded maximum size"),
        ("SYNC_ALERT_WEBHOOK_URL", "alerts.example/hush", "begins with https:// or http://"),
        ("SYNC_ALERT_WEBHOOK_URL", "ftp://alerts.example/hush", "begins with https:// or http://"),
        ("SYNC_ALERT_WEBHOOK_URL", "https://", "begins with https:// or http://"),
        ("SYNC_ALERT_WEBHOOK_URL", "", "is set but empty"),
        ("SYNC_ALERT_WEBHOOK_URL", "https://alerts.example:99999/hush", "its port"),
        ("SYNC_ALERT_WEBHOOK_URL", "https://[::1/hush", "its brackets"),
        ("SYNC_PING_URL", "https://alerts.example/hu sh", "copy it again"),
        ("SYNC_PING_URL", "https://..com/hush", "copy it again"),
        ("SYNC_ALERT_WEBHOOK_SECRET", "whsec_hush-hush", "base64"),
        ("SYNC_ALERT_WEBHOOK_SECRET", "whsec_", "base64"),
        ("SYNC_LOG_FORMAT", "xml", "'json' or 'console'"),
        ("SYNC_LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("SYNC_LOG_LEVEL", "", "is set but empty"),
        ("MEWS_ACCESS_TOKEN", '"ABC-DEF"', "stands in quotes"),
        ("MEWS_ACCESS_TOKEN", "ABC DEF", "copy it again"),
        ("MEWS_ACCESS_TOKEN", "ABC-DEF\n", "copy it again"),
        ("MEWS_CLIENT_TOKEN", "ABC\u2013DEF", "copy it again"),
        ("MEWS_CLIENT_TOKEN", "ABC-DEF\u200b", "copy it again"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line_with_what_to_do(set_: Set, name: str, given: str, words: str) -> None:
    set_(**{name: given})
    line = complaint()
    assert line.startswith(f"{name}: ")
    assert words in line
    assert "\n" not in line
    assert "hush" not in line


@pytest.mark.parametrize("name", SECRETS)
def test_an_empty_secret_is_neither_a_secret_nor_none(set_: Set, name: str) -> None:
    set_(**{name: ""})
    assert complaint() == f"{name}: is set but empty: give a value, or unset it"


def test_an_empty_file_is_an_empty_secret(set_: Set, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(" \n")
    set_(MEWS_ACCESS_TOKEN_FILE=tmp_path / "secret")
    assert complaint() == "MEWS_ACCESS_TOKEN: is set but empty: give a value, or unset it"


@pytest.mark.parametrize("name", ["MEWS_CLIENT", "SYNC_STATE_DIR"])
def test_a_nul_that_only_a_file_can_hold_is_told(set_: Set, tmp_path: Path, name: str) -> None:
    (tmp_path / "given").write_text("/hush\0hush\n")
    set_(**{f"{name}_FILE": tmp_path / "given"})
    assert complaint() == f"{name}: holds a NUL: save the file that it comes from as text, in UTF-8"


@pytest.mark.parametrize(
    ("given", "overlap_s"),
    [
        ({"SYNC_OVERLAP_S": "7", "SYNC_SETTLE_AFTER_S": "600.5"}, 600.5),
        ({"SYNC_OVERLAP_S": "16", "SYNC_SETTLE_AFTER_S": "15"}, 16),
    ],
)
def test_a_pull_reaches_back_as_far_as_the_api_may_show_late(
    set_: Set, given: dict[str, str], overlap_s: float
) -> None:
    set_(**given)
    assert load_settings().overlap == timedelta(seconds=overlap_s)


@pytest.mark.parametrize(
    ("given", "keep"),
    [
        ({"SYNC_OUTBOX_KEEP_DAYS": "1", "SYNC_DELETE_BRAKE_LONG_WINDOW_S": "86401"}, timedelta(days=1, seconds=1)),
        ({"SYNC_OUTBOX_KEEP_DAYS": "1", "SYNC_DELETE_BRAKE_WINDOW_S": "86402"}, timedelta(days=1, seconds=2)),
        ({"SYNC_OUTBOX_KEEP_DAYS": "2", "SYNC_DELETE_BRAKE_LONG_WINDOW_S": "86401"}, timedelta(days=2)),
    ],
)
def test_deletes_are_kept_for_as_long_as_they_count(set_: Set, given: dict[str, str], keep: timedelta) -> None:
    set_(**given)
    assert load_settings().outbox_keep == keep


def test_every_wrong_setting_has_its_line_and_no_value_is_shown(set_: Set) -> None:
    set_(SYNC_LEASE_S="hush-1", SYNC_HTTP_BIND="hush-2", SYNC_AUDIT_CRON="hush-3 * * * *", SYNC_BACKFILL_FROM="hush-4")
    set_(MEWS_ACCESS_TOKEN="hush-5", MEWS_PLATFORM_ADDRESS="http://hush-6.example")
    text = complaint()
    assert [line.partition(":")[0] for line in text.splitlines()] == [
        "MEWS_PLATFORM_ADDRESS",
        "SYNC_AUDIT_CRON",
        "SYNC_BACKFILL_FROM",
        "SYNC_LEASE_S",
        "SYNC_HTTP_BIND",
    ]
    assert "hush-5" not in text
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__  # the original error holds the values
