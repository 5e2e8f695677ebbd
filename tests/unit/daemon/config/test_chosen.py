"""The limits that are chosen for a machine."""

import pytest

from daemon.config import chosen
from daemon.config.chosen import AUTO, Chosen, Machine, choose_bytes, choose_clips, choose_decoders, with_slots
from daemon.config.settings import LimitsSettings

GIB = 2**30


@pytest.mark.parametrize(
    ("cores", "memory_gib", "decoders", "in_flight_gib", "clips"),
    [
        (1, 4, 2, 1, 64),
        (2, 8, 2, 1, 64),
        (4, 16, 3, 2, 64),
        (16, 64, 12, 8, 256),
        (64, 512, 48, 32, 1024),
        (256, 2048, 64, 32, 1024),
        (2, 2, 2, 0.5, 64),  # less memory than the least takes
        (16, 1, 1, 0.25, 256),
        (32, 8, 8, 1, 512),
    ],
)
def test_limits_follow_cores_and_memory_and_are_never_below_the_least(
    cores: int, memory_gib: int, decoders: int, in_flight_gib: float, clips: int
) -> None:
    one = Machine(cores, memory_gib * GIB)

    assert choose_decoders(one) == decoders
    assert choose_bytes(one) == in_flight_gib * GIB
    assert choose_clips(one) == clips


def test_what_is_left_out_is_chosen_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen, "this_machine", lambda: Machine(16, 64 * GIB))

    for limits in (LimitsSettings(), LimitsSettings(decoders=AUTO, in_flight_bytes=AUTO, max_clips_in_flight=AUTO)):
        assert (limits.decoders, limits.in_flight_bytes, limits.max_clips_in_flight) == (12, 8 * GIB, 256)
        assert isinstance(limits.decoders, Chosen)
        assert limits.decoders.why == "three quarters of 16 cores, 2 at least and 64 at most"


def test_what_is_written_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen, "this_machine", lambda: Machine(64, 512 * GIB))

    limits = LimitsSettings(decoders=1, in_flight_bytes="64MiB", max_clips_in_flight=3)

    assert (limits.decoders, limits.in_flight_bytes, limits.max_clips_in_flight) == (1, 64 * 2**20, 3)
    assert not any(isinstance(number, Chosen) for _, number in limits)
    assert with_slots(limits.max_clips_in_flight, 8) == 3


def test_chosen_clips_are_no_more_than_the_engine_has_slots() -> None:
    clips = choose_clips(Machine(64, 512 * GIB))

    assert with_slots(clips, 512) == 512
    assert with_slots(clips, 8) == 64
    assert with_slots(clips, 10_000) == 1024
    assert with_slots(500, 8) == 500
