"""The table of metrics, what a scrape gives, and the guide that explains them."""

import re

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from connectors.messages.cloudevents import PROMPT_HEADER, WALL_END_HEADER, WALL_START_HEADER
from daemon.engines.contract import EngineStatistics, ReplicaStatistics
from daemon.service.health import Phase, Rates
from daemon.telemetry.metrics import TABLE, Metrics
from testing.repository import ROOT
from tests.unit.daemon.running_parts import Clock, Parts

HEADERS = {PROMPT_HEADER, WALL_START_HEADER, WALL_END_HEADER}
_NAME = re.compile(r"captiond_[a-z_]+")


def scraped(metrics: Metrics) -> dict[str, list[tuple[dict[str, str], float]]]:
    text = generate_latest(metrics.registry).decode()
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_names_and_units_follow_prometheus() -> None:
    for row in TABLE:
        assert _NAME.fullmatch(row.name), row
        assert row.name.endswith("_total") == (row.kind == "counter"), row
        assert row.text.endswith("."), row


def test_the_guide_names_every_metric_and_no_other() -> None:
    named = set(_NAME.findall((ROOT / "docs" / "operate.md").read_text())) - HEADERS

    assert named == {row.name for row in TABLE}


def test_no_page_names_a_metric_that_is_not_there() -> None:
    endings = ("", "_bucket", "_sum", "_count")
    known = {row.name + ending for row in TABLE for ending in endings}

    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        assert set(_NAME.findall(page.read_text())) - HEADERS <= known, page


def test_everything_that_is_scraped_is_in_the_table() -> None:
    parts = Parts()
    parts.metrics.clip_taken("inbox", 10)

    families = {re.sub("_(bucket|count|sum)$", "", name) for name in scraped(parts.metrics) if name.startswith("capt")}

    assert families <= {row.name for row in TABLE}


def test_states_are_read_when_they_are_asked_for() -> None:
    parts = Parts()
    parts.health.restarts = {"engine_lost": 2}
    parts.sink.waiting_for = "the broker"

    found = scraped(parts.metrics)

    assert ({"kind": "frames"}, 200.0) in found["captiond_in_flight_bytes"]
    assert ({"kind": "indices"}, 30.0) in found["captiond_in_flight_bytes"]
    assert found["captiond_source_lag"] == [({"source": "inbox", "topic": "clips", "partition": "3"}, 7.0)]
    assert ({"edge": "sink"}, 1.0) in found["captiond_waiting"]
    assert found["captiond_restarts_total"] == [({"ended": "engine_lost"}, 2.0)]
    assert found["captiond_ready"] == [({}, 0.0)]


def test_replicas_are_summed_and_each_is_there() -> None:
    parts = Parts()
    replicas = {
        0: ReplicaStatistics(steps=9, running=3, waiting=1, kv_cache_usage=0.5),
        1: ReplicaStatistics(steps=2, running=2, kv_cache_usage=0.25),
    }
    parts.engine.statistics = EngineStatistics(replicas=replicas, handed_over=lambda: {1: 6})  # type: ignore[assignment]

    found = scraped(parts.metrics)

    assert found["captiond_engine_queue"] == [({"state": "running"}, 5.0), ({"state": "waiting"}, 1.0)]
    assert found["captiond_engine_kv_cache_ratio"] == [({}, 0.375)]
    assert found["captiond_engine_replica_requests"] == [({"replica": "0"}, 4.0), ({"replica": "1"}, 6.0)]
    assert found["captiond_engine_replica_kv_cache_ratio"] == [({"replica": "0"}, 0.5), ({"replica": "1"}, 0.25)]
    assert found["captiond_engine_replica_steps_total"] == [({"replica": "0"}, 9.0), ({"replica": "1"}, 2.0)]


def test_the_engines_busy_time_counts_while_it_is_busy() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    with metrics.in_engine():
        clock.now_s += 3
        with metrics.in_engine():
            clock.now_s += 2
        during_s = metrics.engine_busy_s
    clock.now_s += 100

    assert (during_s, metrics.engine_busy_s, metrics.requests) == (5.0, 5.0, 0)


def test_rates_are_over_the_last_minute() -> None:
    clock = Clock()
    rates = Rates(clock)
    rates.note(0, 0)
    for second in range(1, 121):
        clock.now_s += 1.0
        rate = rates.note(0, 6 * max(0, second - 60))

    assert rate == pytest.approx((0.0, 6.0), abs=0.2)


@pytest.mark.parametrize(
    ("phase", "waits", "ready", "begins"),
    [
        (Phase.STARTING, "", False, "Starting: the model is loaded"),
        (Phase.READY, "", True, "Ready: 0 clips in flight, 0.00 clips/s, 0.0 windows/s; waits for clips"),
        (Phase.READY, "the broker", False, "Ready: 0 clips in flight, 0.00 clips/s, 0.0 windows/s; inbox waits for"),
        (Phase.DRAINING, "", False, "Draining: 0 clips in flight"),
    ],
)
def test_the_status_line(phase: Phase, waits: str, ready: bool, begins: str) -> None:
    parts = Parts()
    parts.health.phase, parts.route.waiting_for = phase, waits

    assert parts.health.line().startswith(begins)
    assert parts.health.snapshot()["ready"] is ready
