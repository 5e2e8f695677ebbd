"""Pings come from progress: a process that is merely there gets none."""

import pytest

from daemon.engines.contract import RenderingState
from daemon.service.watchdog import Watchdog
from tests.unit.daemon.running_parts import Heard, Parts

STALL_S, DECODE_S = 180.0, 60.0


@pytest.fixture
def parts() -> Parts:
    return Parts()


@pytest.fixture
def watchdog(parts: Parts) -> Watchdog:
    return Watchdog(parts.health, Heard(), STALL_S, DECODE_S, parts.clock)


def test_a_daemon_without_work_is_alive_for_ever(parts: Parts, watchdog: Watchdog) -> None:
    pings = []
    for _ in range(100):
        parts.clock.now_s += 100.0
        pings.append(watchdog.look())

    assert all(pings)


def test_an_engine_that_gets_on_is_alive(parts: Parts, watchdog: Watchdog) -> None:
    with parts.metrics.in_engine():
        pings = []
        for _ in range(10):
            parts.clock.now_s += STALL_S - 1
            parts.engine.progress += 1
            pings.append(watchdog.look())

    assert all(pings)


def test_windows_that_are_rendered_are_progress(
    parts: Parts, watchdog: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    with parts.metrics.in_engine():
        pings = []
        for done in range(10):
            parts.clock.now_s += STALL_S - 1
            monkeypatch.setattr(parts.engine, "rendering", RenderingState(done=done), raising=False)
            pings.append(watchdog.look())

    assert all(pings)


def test_an_engine_that_stands_still_gets_no_ping_after_the_stall_limit(parts: Parts, watchdog: Watchdog) -> None:
    with parts.metrics.in_engine():
        watchdog.look()
        parts.clock.now_s += STALL_S - 1
        before = watchdog.look()
        parts.clock.now_s += 1
        after = watchdog.look()

    assert (before, after) == (True, False)
    assert watchdog.stalled == "the engine"


def test_a_ping_comes_again_with_progress(parts: Parts, watchdog: Watchdog) -> None:
    with parts.metrics.in_engine():
        watchdog.look()
        parts.clock.now_s += STALL_S
        still = watchdog.look()
        parts.engine.progress += 1
        again = watchdog.look()

    assert (still, again) == (False, True)


def test_the_main_loop_is_watched_where_the_engine_is_idle(parts: Parts, watchdog: Watchdog) -> None:
    parts.metrics.clip_taken("inbox", 10)
    watchdog.look()
    parts.clock.now_s += STALL_S

    assert not watchdog.look()
    assert watchdog.stalled == "the main loop"


def test_a_slow_decoder_is_given_the_time_of_two_windows(parts: Parts) -> None:
    watchdog = Watchdog(parts.health, Heard(), stall_s=2.0, decode_deadline_s=60.0, clock=parts.clock)
    parts.metrics.clip_taken("inbox", 10)
    watchdog.look()
    parts.clock.now_s += 119.0

    assert watchdog.look()


def test_what_is_waited_for_is_no_stall(parts: Parts, watchdog: Watchdog) -> None:
    parts.metrics.clip_taken("inbox", 10)
    parts.sink.waiting_for = "the broker"
    watchdog.look()
    parts.clock.now_s += 10 * STALL_S

    assert watchdog.look()


@pytest.mark.parametrize(("limit_s", "pause_s"), [(60.0, 5.0), (2.0, 0.5), (None, 5.0)])
def test_it_looks_four_times_within_the_limit(parts: Parts, limit_s: float | None, pause_s: float) -> None:
    assert Watchdog(parts.health, Heard(limit_s), STALL_S, DECODE_S).pause_s == pause_s
