"""A stream that is away is said everywhere, and stops nobody else."""

import pytest

from connectors.contract import StreamReport
from tests.unit.daemon.running_parts import Parts

AWAY = StreamReport(False, 1_800_000_000_000_000_000, "rtsp://me:secret@cam/1 refused", 3, 12_500_000_000)


def ready(parts: Parts) -> Parts:
    parts.health.phase = parts.health.phase.READY
    return parts


def test_a_daemon_with_other_sources_is_ready_while_a_stream_is_away() -> None:
    parts = ready(Parts())
    cam = Parts().route
    cam.name, cam.stream = "cam", AWAY
    parts.health.routes = [parts.route, cam]
    parts.metrics.captions.labels("cam", "gap").inc(2)

    found = parts.health.snapshot()

    assert found["ready"]
    assert found["streams"] == {
        "cam": {
            "connected": False,
            "since": "2027-01-15T08:00:00.000Z",
            "why": "rtsp://********@cam/1 refused",
            "lag_windows": 3,
            "lag_s": 12.5,
            "gaps": 2,
            "skipped": 0,
        }
    }
    readings = parts.health.readings()
    assert readings["captiond_stream_connected"] == {("cam",): 0.0}
    assert readings["captiond_stream_since_timestamp_seconds"] == {("cam",): 1_800_000_000.0}
    assert readings["captiond_stream_lag_windows"] == {("cam",): 3}
    assert readings["captiond_stream_lag_seconds"] == {("cam",): 12.5}


@pytest.mark.parametrize("connected", [True, False])
def test_a_daemon_whose_streams_are_all_away_captions_nothing(connected: bool) -> None:
    parts = ready(Parts())
    parts.route.stream = AWAY
    other = Parts().route
    other.name, other.stream = "other", StreamReport(connected, 0)
    parts.health.routes = [parts.route, other]

    assert bool(parts.health.not_ready()) is not connected
    assert "secret" not in parts.health.not_ready()
