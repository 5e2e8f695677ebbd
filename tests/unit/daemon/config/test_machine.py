"""The limits that are chosen for a machine, and the machine as a container has it."""

import os
from pathlib import Path

import pytest

from daemon.config import machine
from daemon.config.machine import AUTO, Chosen, Machine, choose_bytes, choose_clips, choose_decoders, with_slots
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
    monkeypatch.setattr(machine, "this_machine", lambda: Machine(16, 64 * GIB))

    for limits in (LimitsSettings(), LimitsSettings(decoders=AUTO, in_flight_bytes=AUTO, max_clips_in_flight=AUTO)):
        assert (limits.decoders, limits.in_flight_bytes, limits.max_clips_in_flight) == (12, 8 * GIB, 256)
        assert isinstance(limits.decoders, Chosen)
        assert limits.decoders.why == "three quarters of 16 cores, 2 at least and 64 at most"


def test_what_is_written_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "this_machine", lambda: Machine(64, 512 * GIB))

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


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """A control group three folders deep on a machine of 64 GiB: where groups are, and where /proc is."""
    groups, proc = tmp_path / "cgroup", tmp_path / "proc"
    (groups / "kubepods" / "pod" / "captiond").mkdir(parents=True)
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("0::/kubepods/pod/captiond\n")
    (proc / "meminfo").write_text(f"MemTotal:       {64 * 2**20} kB\nMemFree: 5 kB\n")
    return groups, proc


def test_a_machine_without_bounds_is_whole(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    groups, proc = places
    for folder in (groups / "kubepods", groups / "kubepods" / "pod" / "captiond"):
        (folder / "memory.max").write_text("max\n")
        (folder / "cpu.max").write_text("max 100000\n")

    assert Machine.of(groups, proc) == Machine(16, 64 * GIB)


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("memory.max", f"{8 * GIB}\n", Machine(16, 8 * GIB)),
        ("memory.high", f"{4 * GIB}\n", Machine(16, 4 * GIB)),
        ("cpu.max", "400000 100000\n", Machine(4, 64 * GIB)),
        ("cpu.max", "50000 100000\n", Machine(1, 64 * GIB)),
        ("cpu.max", "250000 100000\n", Machine(2, 64 * GIB)),
        ("cpu.max", "6400000 100000\n", Machine(16, 64 * GIB)),
        ("cpu.max", "nonsense\n", Machine(16, 64 * GIB)),
    ],
)
@pytest.mark.parametrize("group", ["", "kubepods", "kubepods/pod/captiond"])
def test_the_bounds_of_a_control_group_count(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, group: str, file: str, text: str, expected: Machine
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    groups, proc = places
    (groups / group / file).write_text(text)

    assert Machine.of(groups, proc) == expected


def test_the_affinity_counts(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)

    assert Machine.of(*places).cores == 2


def test_a_machine_that_says_nothing_bounds_nothing(tmp_path: Path) -> None:
    found = Machine.of(tmp_path, tmp_path)

    assert found.cores >= 1
    assert found.memory_bytes > 0
