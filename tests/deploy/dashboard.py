"""Makes deploy/grafana/dashboards/voucher-sync.json: `python -m tests.deploy.dashboard`.

Its panels are listed below, row by row; what Grafana wants to know beside that is put together behind them.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.deploy.helpers import DEPLOY

DASHBOARD_FILE = DEPLOY / "grafana" / "dashboards" / "voucher-sync.json"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24
OF = 'connection=~"$connection"'
RATE = "[$__rate_interval]"


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked, and how its series are called."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A chart; with `bounds` one big number that turns yellow, or red, from these values on; None: never."""

    title: str
    meaning: str
    unit: str
    queries: Sequence[Query]
    bounds: tuple[float | None, float | None] | None = None


def _worst(metric: str, of: str = OF) -> str:
    return f"max by (connection) (voucher_sync_{metric}{{{of}}})"


def _rate(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate(voucher_sync_{metric}_total{{{OF}}}{RATE}))"


def _quantile(share: float, metric: str, by: str, of: str) -> str:
    return f"histogram_quantile({share}, sum by ({by}, le) (rate(voucher_sync_{metric}_bucket{{{of}}}{RATE})))"


def _stat(title: str, meaning: str, unit: str, expr: str, *, yellow: float | None = None, red: float | None) -> Panel:
    return Panel(title, meaning, unit, [Query(expr, "")], (yellow, red))


ROWS: dict[str, Sequence[Panel]] = {
    "Is it working?": [
        _stat("Daemons away", "Targets that cannot be scraped.", "none",
              'count(up{job="voucher-sync"} == 0) or vector(0)', red=1),
        _stat("Failing jobs", "Jobs that failed when they last ran.", "none",
              f"sum(max by (connection, kind) (voucher_sync_failing{{{OF}}}))", red=1),
        _stat("Mirror behind", "Since the last pull began that left nothing to read.", "s",
              f"max({_worst('freshness_seconds')})", yellow=300, red=1800),
        _stat("Oldest change waits", "Since the oldest pending change was queued.", "s",
              f"max({_worst('outbox_oldest_pending_seconds', '')}) or vector(0)", yellow=300, red=900),
        _stat("Held changes", "They wait for somebody to release them.", "none",
              'sum(max by (connection) (voucher_sync_outbox_rows{status="held"}))', red=1),
        _stat("Failed changes", "Refused for good, and not retried since.", "none",
              'sum(max by (connection) (voucher_sync_outbox_rows{status="failed"}))', yellow=1, red=None),
        _stat("Budget used", "Of the requests that the API allows in its window.", "percentunit",
              f"max(sum by (connection) (voucher_sync_budget_used_requests{{{OF}}}) / "
              f"{_worst('budget_limit_requests')})", yellow=0.7, red=0.9),
        _stat("Alerts", "Alerts of voucher-sync that fire now.", "none",
              'count(ALERTS{alertname=~"VoucherSync.*", alertstate="firing"}) or vector(0)', red=1),
    ],
    "Mirror": [
        Panel("How far behind", "Freshness: since the last pull began that left nothing to read. Lag: age of the "
              "instant through which every voucher is mirrored.", "s",
              [Query(_worst("freshness_seconds"), "freshness of {{connection}}"),
               Query(_worst("lag_seconds"), "lag of {{connection}}")]),
        Panel("Time since a pull got on", "Since it last read a page, or ended well.", "s",
              [Query(f"min by (connection) (voucher_sync_poll_age_seconds{{{OF}}})", "{{connection}}")]),
        Panel("Codes read", "By what became of them.", "cps",
              [Query(_rate("codes", "outcome"), "{{outcome}}")]),
        Panel("Windows left to read", "More than a few are a backfill.", "none",
              [Query(_worst("open_windows"), "{{connection}}")]),
        Panel("Pages and windows read", "Of voucher codes.", "cps",
              [Query(_rate("pages", "connection"), "pages of {{connection}}"),
               Query(_rate("windows", "connection"), "windows of {{connection}}")]),
        Panel("Left out", "Services and vouchers that are skipped, and records that could not be stored.", "none",
              [Query(_worst("skipped"), "skipped of {{connection}}"),
               Query(_worst("rejected_records"), "rejected of {{connection}}")]),
    ],
    "Outbox": [
        Panel("Changes in the outbox", "By status; of no connection: their voucher is not known.", "none",
              [Query("max by (connection, status) (voucher_sync_outbox_rows)", "{{status}} {{connection}}")]),
        Panel("Oldest pending change", "Since it was queued.", "s",
              [Query(_worst("outbox_oldest_pending_seconds", ""), "{{connection}}")]),
        Panel("What became of changes", "A second.", "cps",
              [Query(_rate("changes", "outcome"), "{{outcome}}"),
               Query(_rate("push_calls", "connection"), "calls of {{connection}}")]),
    ],
    "API": [
        Panel("Requests by status", "A second.", "reqps", [Query(_rate("requests", "status"), "{{status}}")]),
        Panel("Requests by operation", "A second; retries are reads that were tried once more.", "reqps",
              [Query(_rate("requests", "operation"), "{{operation}}"),
               Query(_rate("request_retries", "operation"), "retries of {{operation}}")]),
        Panel("Budget", "Requests that count in the API's window, and how many may.", "none",
              [Query(f"sum by (connection) (voucher_sync_budget_used_requests{{{OF}}})", "used by {{connection}}"),
               Query(_worst("budget_limit_requests"), "limit of {{connection}}")]),
        Panel("Duration of requests", "Of all operations.", "s",
              [Query(_quantile(share, "request_duration_seconds", "platform_address", ""),
                     f"{name} of {{{{platform_address}}}}")
               for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))]),
        Panel("API in trouble", "Silence that it has asked for, and whether it is asked only now and then.", "s",
              [Query(_worst("silence_seconds"), "silence of {{connection}}"),
               Query(_worst("circuit_open"), "circuit open of {{connection}}")]),
        Panel("Platform", "Calls of all connections, and as many there may be; away: it answers none.", "none",
              [Query(f"sum by (platform_address) (voucher_sync_platform_{name})", f"{legend} {{{{platform_address}}}}")
               for name, legend in (("calls_in_flight", "in flight to"), ("calls_waiting", "waiting for"),
                                    ("calls_in_flight_limit", "may be in flight to"),
                                    ("calls_per_second_limit", "may begin a second to"),
                                    ("circuit_open", "away for replicas:"))]),
    ],
    "Audit": [
        Panel("Drift", "Codes that the last audits found to differ.", "none",
              [Query(_worst("audit_drift_codes"), "{{connection}}"),
               Query(_worst("audit_stopped"), "stopped of {{connection}}")]),
        Panel("Time since all was audited", "", "s", [Query(_worst("audit_age_seconds"), "{{connection}}")]),
    ],
    "Process and database": [
        Panel("Jobs that ended", "A second.", "cps",
              [Query(_rate("job_runs", "kind, outcome"), "{{kind}} {{outcome}}")]),
        Panel("Event loop lag", "How much later than asked for it went on.", "s",
              [Query(_quantile(0.99, "event_loop_lag_seconds", "instance", ""), "p99 of {{instance}}")]),
        Panel("Database sessions", "At work, and as many there may be; up: it has just answered.", "none",
              [Query("voucher_sync_database_sessions_in_use", "in use by {{instance}}"),
               Query("voucher_sync_database_sessions_limit", "limit of {{instance}}"),
               Query("voucher_sync_database_up", "up for {{instance}}")]),
        Panel("Heartbeat", "Since any daemon noted that it lives; adoption: 1 where the database waits for it.", "s",
              [Query(_worst("heartbeat_age_seconds"), "{{connection}}"),
               Query(_worst("not_adopted"), "adoption of {{connection}}")]),
        Panel("Daemons", "On the database: heard of within their lease, and ended without saying so.", "none",
              [Query("max(voucher_sync_replicas)", "alive"), Query("max(voucher_sync_replicas_silent)", "silent")]),
        Panel("Connections", "Owned: a daemon works for it. Key: 1 where one has that to stored tokens.", "none",
              [Query(f"sum(max by (connection) (voucher_sync_owned{{{OF}}}))", "owned"),
               Query(f"sum(max by (connection) (voucher_sync_paused{{{OF}}}))", "paused"),
               Query("max(voucher_sync_stored_connections)", "with tokens in the database"),
               Query("voucher_sync_has_secret_key", "key of {{instance}}")]),
        Panel("Memory", "Resident.", "bytes",
              [Query('process_resident_memory_bytes{job="voucher-sync"}', "{{instance}}")]),
        Panel("CPU", "Cores in use.", "none",
              [Query(f'rate(process_cpu_seconds_total{{job="voucher-sync"}}{RATE})', "{{instance}}")]),
        Panel("Version", "And the revision of the schema that it needs.", "none",
              [Query("voucher_sync_build_info", "{{instance}}: {{version}}, {{revision}}")]),
    ],
}  # fmt: skip


def queries() -> list[str]:
    """Everything that is asked, with what Grafana puts in for its variables."""
    return [
        query.expr.replace("$connection", ".*").replace("$__rate_interval", "2m")
        for panels in ROWS.values()
        for panel in panels
        for query in panel.queries
    ]


def dashboard() -> dict[str, Any]:
    """The whole of it, as Grafana reads it."""
    return {
        "uid": "voucher-sync",
        "title": "voucher-sync",
        "description": "Mirror of voucher codes from Mews: how it is doing. Made by tests/deploy/dashboard.py.",
        "tags": ["voucher-sync"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_variable_datasource(), _variable_connection()]},
        "annotations": {"list": [_annotation()]},
        "panels": list(_panels()),
    }


def _variable_datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "hide": 0}


def _variable_connection() -> dict[str, Any]:
    return {
        "name": "connection",
        "label": "Connection",
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": "label_values(voucher_sync_budget_limit_requests, connection)", "refId": "connections"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"], "selected": True},
    }


def _annotation() -> dict[str, Any]:
    """A line where a daemon was started."""
    return {
        "name": "Starts",
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": "blue",
        "target": {"refId": "starts", "expr": 'changes(process_start_time_seconds{job="voucher-sync"}[2m]) > 0'},
        "titleFormat": "started",
    }


def _panels() -> Iterator[dict[str, Any]]:
    number, y = 0, 0
    for title, panels in ROWS.items():
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "panels": [],
            "gridPos": _at(0, y, 24, 1),
        }
        y += 1
        is_stats = panels[0].bounds is not None
        width, height = (COLUMNS // len(panels), 4) if is_stats else (COLUMNS // 3, 8)
        for place, panel in enumerate(panels):
            number += 1
            line, x = divmod(place, COLUMNS // width)
            yield _panel(panel, number, _at(x * width, y + line * height, width, height))
        y += height * -(-len(panels) // (COLUMNS // width))


def _at(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + index), "datasource": DATASOURCE, "expr": query.expr, "legendFormat": query.legend}
        for index, query in enumerate(panel.queries)
    ]
    of_all = {
        "id": number,
        "title": panel.title,
        "description": panel.meaning,
        "datasource": DATASOURCE,
        "gridPos": place,
    }
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.bounds is None:
        options = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi"},
        }
        defaults["custom"] = {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": False}
        kind: dict[str, Any] = {"type": "timeseries", "options": options}
    else:
        yellow, red = panel.bounds
        steps = [
            {"color": "green", "value": None},
            {"color": "yellow", "value": yellow},
            {"color": "red", "value": red},
        ]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "background", "graphMode": "area"}
        kind = {"type": "stat", "options": options}
    return of_all | kind | {"targets": targets, "fieldConfig": {"defaults": defaults, "overrides": []}}


def text() -> str:
    """The file as it must be."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    DASHBOARD_FILE.write_text(text(), encoding="utf-8")
