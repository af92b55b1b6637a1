"""The alert rules by themselves: that Prometheus takes them, when they fire, and what they link to."""

import re
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.deploy.helpers import DEPLOY, command, needs
from tests.support.pages import anchors
from tests.support.prometheus import CONFIG_FILE, RULES_FILE, hastened, rules

RULES = {rule["alert"]: rule for rule in rules()}
TAKE_TOO_LONG = {
    "VoucherSyncRestarting", "VoucherSyncAuditMissed", "VoucherSyncNeverAudited", "VoucherSyncEventLoopBlocked",
}  # fmt: skip
"""What no test has a real daemon meet: days without an audit, and a machine that is too slow for it."""
A, B = 'job="voucher-sync", instance="a"', 'job="voucher-sync", instance="b"'
OURS = f'{A}, connection="default"'
HEALTHY = {
    f"up{{{A}}}": "1x3000",
    f"up{{{B}}}": "1x3000",
    f"process_start_time_seconds{{{A}}}": "1000x3000",
    f"voucher_sync_heartbeat_age_seconds{{{OURS}}}": "5x3000",
    f"voucher_sync_database_up{{{A}}}": "1x3000",
    f"voucher_sync_replicas{{{A}}}": "2x3000",
    f"voucher_sync_replicas{{{B}}}": "2x3000",
    f"voucher_sync_owned{{{OURS}}}": "1x3000",
    f"voucher_sync_stored_connections{{{A}}}": "3x3000",
    f"voucher_sync_has_secret_key{{{A}}}": "1x3000",
    f"voucher_sync_has_secret_key{{{B}}}": "1x3000",
    f'voucher_sync_failing{{{OURS}, kind="pull"}}': "0x3000",
    f"voucher_sync_poll_age_seconds{{{OURS}}}": "20x3000",
    f"voucher_sync_budget_limit_requests{{{OURS}}}": "200x3000",
    f"voucher_sync_budget_used_requests{{{OURS}}}": "5x3000",
    f"voucher_sync_freshness_seconds{{{OURS}}}": "40x3000",
    f'voucher_sync_codes_total{{{OURS}, outcome="unchanged"}}': "0x600 1+1x2400",
    f'voucher_sync_job_runs_total{{{OURS}, kind="pull", outcome="ok"}}': "0+1x3000",
    f"voucher_sync_skipped{{{OURS}}}": "3x3000",
    f"voucher_sync_rejected_records{{{OURS}}}": "2x3000",
    f'voucher_sync_outbox_rows{{{OURS}, status="held"}}': "0x3000",
    f'voucher_sync_outbox_rows{{{OURS}, status="failed"}}': "7x3000",
    f'voucher_sync_outbox_rows{{{OURS}, status="sending"}}': "_ 4 0 0 9x2 0x2900",
    f'voucher_sync_outbox_rows{{{OURS}, status="uncertain"}}': "0x3000",
    f"voucher_sync_outbox_oldest_pending_seconds{{{OURS}}}": "1x3000",
    f"voucher_sync_outbox_stuck{{{OURS}}}": "0x3000",
    f"voucher_sync_not_adopted{{{OURS}}}": "0x3000",
    f"voucher_sync_audit_drift_codes{{{OURS}}}": "0x3000",
    f"voucher_sync_audit_stopped{{{OURS}}}": "0x3000",
    f"voucher_sync_audit_age_seconds{{{OURS}}}": "0+60x1440 0+60x1440",
    f"voucher_sync_silence_seconds{{{OURS}}}": "0x3000",
    f"voucher_sync_event_loop_lag_seconds_sum{{{A}}}": "0+1x3000",
    f"voucher_sync_event_loop_lag_seconds_count{{{A}}}": "0+120x3000",
}
"""A daemon and a replica that work well for two days, a sample each minute."""


def fires(directory: Path, instead: dict[str, str], expected: dict[str, set[str]]) -> str:
    """What promtool has against `expected`, the alerts that fire at some instants if some of what is healthy is not."""
    promtool = needs("promtool")
    shutil.copy(RULES_FILE, directory)
    unknown = [name for name in instead if name not in HEALTHY and "429" not in name]
    assert unknown == []
    series = [{"series": name, "values": values} for name, values in (HEALTHY | instead).items() if values]
    expectations = [
        {
            "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
            "eval_time": at,
            "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(names)],
        }
        for at, names in expected.items()
    ]
    test = {"interval": "1m", "input_series": series, "promql_expr_test": expectations}
    path = directory / "rules.test.yml"
    # Days of it, minute by minute, take a machine seconds.
    every = "5m" if any(at.endswith(("h", "d")) for at in expected) else "1m"
    YAML(typ="safe").dump({"rule_files": [RULES_FILE.name], "evaluation_interval": every, "tests": [test]}, path)
    done = command(promtool, "test", "rules", str(path))
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_prometheus_takes_the_rules_and_the_configuration() -> None:
    promtool = needs("promtool")
    for what in (("rules", RULES_FILE), ("config", "--syntax-only", CONFIG_FILE)):
        done = command(promtool, "check", *map(str, what))
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
def test_nothing_fires_while_all_is_well(tmp_path: Path) -> None:
    assert fires(tmp_path, {}, {"10m": set(), "1d": set(), "47h": set()}) == ""


def test_the_test_of_rules_can_fail(tmp_path: Path) -> None:
    assert "FAILED" in fires(tmp_path, {}, {"10m": {"VoucherSyncDown"}})


@pytest.mark.long
@pytest.mark.parametrize(
    ("instead", "expected"),
    [
        ({f"up{{{A}}}": "1x10 0x100"}, {"12m": set(), "16m": {"VoucherSyncReplicaDown"}}),
        (
            {f"up{{{A}}}": "1x10 0x100", f"up{{{B}}}": "1x10 0x100"},
            {"12m": set(), "13m": {"VoucherSyncDown"}, "16m": {"VoucherSyncDown", "VoucherSyncReplicaDown"}},
        ),
        (
            {f"process_start_time_seconds{{{A}}}": "1x9 2x9 3x9 4x9 5x60 5x200"},
            {"35m": set(), "45m": {"VoucherSyncRestarting"}, "2h": set()},
        ),
        (
            {
                f"voucher_sync_poll_age_seconds{{{OURS}}}": "20x10 20+60x100",
                f"voucher_sync_freshness_seconds{{{OURS}}}": "40x10 40+60x100",
            },
            {
                "14m": set(),
                "17m": {"VoucherSyncNoProgress"},
                "50m": {"VoucherSyncNoProgress", "VoucherSyncStale"},
            },
        ),
        (
            {f"voucher_sync_heartbeat_age_seconds{{{OURS}}}": "5x10 5+60x100"},
            {"13m": set(), "16m": {"VoucherSyncHeartbeatGone"}},
        ),
        (
            {f"voucher_sync_replicas{{{A}}}": "2x10 1x200", f"voucher_sync_replicas{{{B}}}": "2x10 stale"},
            {"14m": set(), "18m": {"VoucherSyncReplicaGone"}, "60m": {"VoucherSyncReplicaGone"}, "100m": set()},
        ),
        ({f"voucher_sync_replicas{{{A}}}": "2x60 3 2x200"}, {"62m": set(), "70m": set(), "110m": set()}),
        (
            {f"voucher_sync_owned{{{OURS}}}": "1x10 0x100"},
            {"14m": set(), "17m": {"VoucherSyncConnectionsUnowned"}},
        ),
        (
            {f"voucher_sync_has_secret_key{{{B}}}": "1x10 0x100"},
            {"14m": set(), "17m": {"VoucherSyncSecretKeyMissing"}},
        ),
        (
            {f"voucher_sync_has_secret_key{{{B}}}": "0x100", f"voucher_sync_stored_connections{{{A}}}": "0x100"},
            {"17m": set()},
        ),
        ({f"voucher_sync_database_up{{{A}}}": "1x10 0x100"}, {"12m": set(), "14m": {"VoucherSyncDatabaseDown"}}),
        (
            {f'voucher_sync_failing{{{OURS}, kind="pull"}}': "0x10 1x3 0x10 1x100"},
            {"15m": set(), "31m": {"VoucherSyncFailing"}},
        ),
        (
            {f'voucher_sync_outbox_rows{{{OURS}, status="held"}}': "0x10 1x100"},
            {"11m": set(), "13m": {"VoucherSyncChangesHeld"}},
        ),
        ({f"voucher_sync_not_adopted{{{OURS}}}": "0x10 1x100"}, {"11m": set(), "13m": {"VoucherSyncNotAdopted"}}),
        ({f"voucher_sync_audit_drift_codes{{{OURS}}}": "0x10 9x100"}, {"11m": set(), "13m": {"VoucherSyncDrift"}}),
        ({f"voucher_sync_audit_stopped{{{OURS}}}": "0x10 1x100"}, {"11m": set(), "13m": {"VoucherSyncAuditStopped"}}),
        ({f"voucher_sync_poll_age_seconds{{{OURS}}}": ""}, {"9m": set(), "11m": {"VoucherSyncNeverPolled"}}),
        (
            {f'voucher_sync_codes_total{{{OURS}, outcome="unchanged"}}': "5x3000"},
            {"50m": set(), "26h": {"VoucherSyncNothingRead"}},
        ),
        (
            {f"voucher_sync_skipped{{{OURS}}}": "3x60 4x2900"},
            {"70m": set(), "90m": {"VoucherSyncSkippedMore"}, "26h": set()},
        ),
        (
            {f"voucher_sync_rejected_records{{{OURS}}}": "2x60 3x2900"},
            {"60m": set(), "65m": {"VoucherSyncRecordsRejected"}, "150m": set()},
        ),
        (
            {f'voucher_sync_outbox_rows{{{OURS}, status="failed"}}': "7x60 8x2900"},
            {"60m": set(), "65m": {"VoucherSyncChangesFailed"}, "150m": set()},
        ),
        (
            {f"voucher_sync_outbox_stuck{{{OURS}}}": "0x10 1x30 0x100"},
            {"12m": set(), "25m": {"VoucherSyncChangesStuck"}, "45m": set()},
        ),
        (
            {f"voucher_sync_outbox_oldest_pending_seconds{{{OURS}}}": "1x10 1+60x30 1x100"},
            {"29m": set(), "32m": {"VoucherSyncOutboxWaits"}, "45m": {"VoucherSyncOutboxWaits"}, "60m": set()},
        ),
        (
            {f"voucher_sync_outbox_oldest_pending_seconds{{{OURS}}}": "1x10" + " 1200 1x2" * 20},
            {"13m": set(), "20m": {"VoucherSyncOutboxWaits"}, "60m": {"VoucherSyncOutboxWaits"}},
        ),
        (
            {f'voucher_sync_outbox_rows{{{OURS}, status="uncertain"}}': "0x10 1x100"},
            {"29m": set(), "32m": {"VoucherSyncOutboxUncertain"}},
        ),
        (
            {f"voucher_sync_audit_age_seconds{{{OURS}}}": "0+60x3000"},
            {"36h": set(), "37h": {"VoucherSyncAuditMissed"}},
        ),
        ({f"voucher_sync_audit_age_seconds{{{OURS}}}": ""}, {"35h": set(), "37h": {"VoucherSyncNeverAudited"}}),
        (
            {f"voucher_sync_budget_used_requests{{{OURS}}}": "5x10 200x100"},
            {"35m": set(), "45m": {"VoucherSyncBudgetExhausted"}},
        ),
        (
            {f'voucher_sync_requests_total{{{OURS}, operation="voucherCodes/getAll", status="429"}}': "_x10 1x2 2x100"},
            {"11m": set(), "16m": {"VoucherSyncRateLimited"}, "40m": set()},
        ),
        (
            {f"voucher_sync_event_loop_lag_seconds_sum{{{A}}}": "0+1x10 10+60x100"},
            {"12m": set(), "30m": {"VoucherSyncEventLoopBlocked"}},
        ),
    ],
    ids=lambda one: "+".join(sorted({name for names in one.values() for name in names if len(name) > 1})),
)
def test_an_alert_fires_when_it_is_time(tmp_path: Path, instead: dict[str, str], expected: dict[str, set[str]]) -> None:
    assert fires(tmp_path, instead, expected) == ""


@pytest.mark.parametrize("name", RULES)
def test_an_alert_says_what_is_wrong_and_links_a_heading_of_the_runbook(name: str) -> None:
    rule = RULES[name]
    page, _, anchor = rule["annotations"]["runbook"].partition("#")

    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    assert page == "deploy/runbook.md"
    assert anchor in anchors(DEPLOY / "runbook.md")


def test_every_heading_but_those_like_failing_has_an_alert() -> None:
    headings = set(re.findall(r"(?m)^## (.+)$", (DEPLOY / "runbook.md").read_text()))

    assert headings == {rule["annotations"]["runbook"].partition("#")[2] for rule in RULES.values()}


def test_every_alert_was_made_to_fire() -> None:
    by_promtool, by_a_daemon = (Path(__file__).with_name(f"{name}.py").read_text() for name in (
        "test_alerts", "test_alerts_fire",
    ))  # fmt: skip

    assert [name for name in RULES if f'"{name}"' not in by_promtool] == []
    assert {name for name in RULES if f'"{name}"' not in by_a_daemon} == TAKE_TOO_LONG


def test_the_reference_has_every_alert() -> None:
    page = (DEPLOY.parent / "docs" / "reference" / "alerts.md").read_text(encoding="utf-8")
    told = re.findall(r"(?m)^\| `(\w+)` \| (\w+) \| ([\w ]+) \|.*#(\w+)\) \|$", page)

    assert told == [
        (name, rule["labels"]["severity"], rule.get("for", "at once"), rule["annotations"]["runbook"].partition("#")[2])
        for name, rule in RULES.items()
    ]


def test_time_passes_faster_where_a_test_says_so() -> None:
    rule = {"alert": "A", "expr": "max_over_time(age_seconds[15m]) > 1800 and rate(b[1d]) > 10", "for": "5m"}

    assert hastened(rule, 60) == {
        "alert": "A",
        "expr": "max_over_time(age_seconds[15000ms]) > 30 and rate(b[1440000ms]) > 10",
        "for": "5000ms",
    }
