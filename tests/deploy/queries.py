"""The queries of the alerts and the dashboard."""

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from testing.repository import ROOT

ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
DASHBOARD = ROOT / "deploy" / "grafana" / "captiond.json"
_VARIABLES = {"$__rate_interval": "5m", "$job": ".*", "$source": ".*"}


def rules() -> list[dict[str, Any]]:
    """Return the recording rules and alerts."""
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def panels() -> Iterator[tuple[str, str]]:
    """Yield the title of each panel and each of its queries, with the dashboard's variables filled in."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"]
            for name, value in _VARIABLES.items():
                query = query.replace(name, value)
            yield panel["title"], query


def selected(query: str) -> set[str]:
    """Return the names of metrics in a query."""
    return set(re.findall(r"\b(?:captiond|process)_\w+", query))


def labels_of(query: str) -> set[str]:
    """Return the labels that a query groups or selects by."""
    grouped = (name for names in re.findall(r"\bby \(([^)]*)\)", query) for name in names.split(","))
    chosen = re.findall(r"[{,]\s*(\w+)\s*[=!]~?", query)
    return {name.strip() for name in (*grouped, *chosen)}
