"""The dashboard is what its code makes, and asks for what a daemon tells; so do the alert rules."""

import json
import re
from pathlib import Path

import httpx
import pytest
from ruamel.yaml import YAML

from sync.web.metrics.names import METRICS
from tests.deploy.dashboard import DASHBOARD_FILE, dashboard, queries, text
from tests.deploy.helpers import DEPLOY, command, needs
from tests.support.daemon import running
from tests.support.mirror import Mirror
from tests.support.prometheus import rules

TOKEN = "a-token-of-many-characters"
PROVISIONING = DEPLOY / "grafana" / "provisioning"
ASKED = [*queries(), *(rule["expr"] for rule in rules())]
OF_PROMETHEUS = {"up": {"job", "instance"}, "ALERTS": {"alertname", "alertstate"}}
OF_TARGET = {"job", "instance", "le"}
LABELS = {metric.full_name: {*metric.labels, *OF_TARGET} for metric in METRICS}
SUFFIX = re.compile(r"_(bucket|sum|count)$")
SELECTED = re.compile(r"\b(up|ALERTS|(?:voucher_sync|process)_\w+)\b(?:\{([^}]*)\})?")


def test_the_file_is_what_its_code_makes() -> None:
    assert DASHBOARD_FILE.read_text() == text(), "renew it by `python -m tests.deploy.dashboard`"


def test_every_panel_has_its_place_and_its_number() -> None:
    panels = dashboard()["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23


@pytest.mark.long
async def test_every_query_names_metrics_and_labels_that_a_daemon_tells(mirror: Mirror, tmp_path: Path) -> None:
    settings = {"SYNC_HTTP_BIND": "127.0.0.1:0", "SYNC_HTTP_TOKEN": TOKEN, "SYNC_LOG_LEVEL": "info"}
    async with running(mirror, tmp_path, **settings) as daemon, httpx.AsyncClient(trust_env=False) as client:
        address = (await daemon.event("http_listening"))["address"]
        told = (await client.get(f"{address}metrics", headers={"Authorization": f"Bearer {TOKEN}"})).text
    names = set(re.findall(r"(?m)^# TYPE (\S+) ", told)) | OF_PROMETHEUS.keys()

    for query in ASKED:
        selected = SELECTED.findall(query)
        assert selected, query
        for name, matchers in selected:
            known = name if name in names else SUFFIX.sub("", name)
            assert known in names, query
            labels = set(re.findall(r"(\w+)(?:=~|!~|!=|=)", matchers))
            assert labels <= (OF_PROMETHEUS | LABELS).get(known, OF_TARGET), query


def test_what_is_grouped_by_is_a_label_of_what_is_asked_for() -> None:
    for query in ASKED:
        own = set().union(*((OF_PROMETHEUS | LABELS).get(SUFFIX.sub("", name), OF_TARGET)
                            for name, _ in SELECTED.findall(query)))  # fmt: skip
        for labels in re.findall(r"\bby \(([^)]*)\)", query):
            assert {one.strip() for one in labels.split(",")} <= own, query


def test_no_metric_is_told_that_nobody_looks_at() -> None:
    asked = {SUFFIX.sub("", name) for query in ASKED for name, _ in SELECTED.findall(query)}

    assert {metric.full_name for metric in METRICS} - asked == set()


def test_prometheus_can_read_every_query(tmp_path: Path) -> None:
    path = tmp_path / "queries.yml"
    recorded = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries())]
    YAML(typ="safe").dump({"groups": [{"name": "queries", "rules": recorded}]}, path)

    done = command(needs("promtool"), "check", "rules", str(path))

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted(PROVISIONING.rglob("*.yml")), ids=lambda one: one.name)
def test_what_grafana_is_provisioned_with_is_the_first_version_of_its_form(path: Path) -> None:
    assert YAML(typ="safe").load(path)["apiVersion"] == 1


def test_the_dashboard_takes_whichever_prometheus_there_is() -> None:
    used = re.findall(r'"uid": "([^"]+)"', json.dumps(dashboard()["panels"]))

    assert set(used) == {"${datasource}"}
