"""Alerts and dashboard name metrics and labels that there are, and the guide names the alerts."""

import json
import shutil
import subprocess

import pytest

from daemon.telemetry.metrics import TABLE
from testing.repository import ROOT
from tests.deploy.queries import ALERTS, DASHBOARD, labels_of, panels, rules, selected

PROMETHEUS_OWN = {"job", "instance", "le"}
RECORDED = {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}
QUERIES = [*((rule.get("alert") or rule["record"], rule["expr"]) for rule in rules()), *panels()]
PROCESS = {"process_resident_memory_bytes", "process_cpu_seconds_total"}


def families(query: str) -> list[str]:
    names = selected(query) - PROCESS
    return [name.removesuffix("_bucket") if name.endswith("_seconds_bucket") else name for name in names]


@pytest.mark.parametrize(("name", "query"), QUERIES, ids=[f"{name}-{at}" for at, (name, _) in enumerate(QUERIES)])
def test_a_query_names_metrics_and_labels_of_the_table(name: str, query: str) -> None:
    for recorded, expression in RECORDED.items():
        query = query.replace(recorded, expression)
    rows = {row.name: row for row in TABLE}

    assert set(families(query)) <= set(rows)
    known = {label for family in families(query) for label in rows[family].labels}
    assert labels_of(query) <= known | PROMETHEUS_OWN


def test_every_metric_but_a_few_is_on_the_dashboard() -> None:
    shown = {family for _, query in panels() for family in families(query)}

    missing = {row.name for row in TABLE} - shown
    assert missing == {
        "captiond_build_info",  # the variable job is made of it
        "captiond_clip_bytes_total",
        "captiond_reloads_total",
        "captiond_sandbox_missing",
    }


def test_the_guide_names_every_alert() -> None:
    guide = (ROOT / "docs" / "operate.md").read_text()

    assert [rule["alert"] for rule in rules() if "alert" in rule and rule["alert"] not in guide] == []


def test_panels_are_complete_and_do_not_overlap() -> None:
    board = json.loads(DASHBOARD.read_text())
    taken: set[tuple[int, int]] = set()

    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["title"]
        assert panel["type"] == "row" or panel["description"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_prometheus_own_tool_takes_the_rules_and_each_alert_fires() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool: Debian's package prometheus brings it")
    for arguments in (("check", "rules", ALERTS.name), ("test", "rules", "alerts.test.yaml")):
        ended = subprocess.run(
            [promtool, *arguments], cwd=ALERTS.parent, capture_output=True, text=True, timeout=120, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr

    tried = (ALERTS.parent / "alerts.test.yaml").read_text()
    assert [rule["alert"] for rule in rules() if "alert" in rule and f"alertname: {rule['alert']}" not in tried] == []
