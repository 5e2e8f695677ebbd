"""What the metrics say of rendering."""

import pytest

from daemon.engines.contract import RenderingState
from tests.unit.daemon.running_parts import Parts


def test_an_engine_without_renderers_has_no_such_metrics() -> None:
    assert not [name for name in Parts().health.readings() if name.startswith("captiond_render")]


def test_renderers_are_read_from_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts()
    monkeypatch.setattr(parts.engine, "rendering", RenderingState(2, 7, 1, 3), raising=False)

    found = parts.health.readings()

    assert found["captiond_renderers"] == {(): 2}
    assert found["captiond_render_queue"] == {("waiting",): 7, ("rendering",): 1}
    assert found["captiond_renderers_replaced_total"] == {(): 3}
    assert found["captiond_in_flight_bytes"]["rendered",] == 40
