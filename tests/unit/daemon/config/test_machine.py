"""The size of the machine, as far as this process may use it."""

import os
from pathlib import Path

import pytest

from daemon.config.machine import core_count, memory_bytes


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"": "max", "a": "1000", "a/b": "max"}, 1000),
        ({"a": "2000", "a/b": "500"}, 500),
        ({"a/b": "9000"}, 9000),
        ({"a/other": "3"}, None),
        ({}, None),
    ],
)
def test_the_smallest_limit_above_counts(tmp_path: Path, limits: dict[str, str], expected: int | None) -> None:
    own, groups = tmp_path / "own", tmp_path / "groups"
    own.write_text("1:name=systemd:/x\n0::/a/b\n")
    (groups / "a" / "b").mkdir(parents=True)
    (groups / "a" / "other").mkdir()
    for place, limit in limits.items():
        (groups / place / "memory.max").write_text(limit + "\n")

    assert memory_bytes(own, groups) == (expected or memory_bytes(tmp_path / "none"))


def test_there_is_a_machine() -> None:
    assert core_count() >= 1
    assert memory_bytes() > 2**20


@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [
        ("max 100000", 16),
        ("400000 100000", 4),
        ("250000 100000", 2),
        ("50000 100000", 1),
        ("6400000 100000", 16),
        ("nonsense", 16),
        ("100000 0", 16),
    ],
)
@pytest.mark.parametrize("place", ["", "a", "a/b"])
def test_cores_are_those_that_the_groups_pay_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, cpu_max: str, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    own, groups = tmp_path / "own", tmp_path / "groups"
    own.write_text("0::/a/b\n")
    (groups / "a" / "b").mkdir(parents=True)
    (groups / place / "cpu.max").write_text(cpu_max + "\n")

    assert core_count(own, groups) == expected


def test_cores_are_those_that_it_may_run_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)

    assert core_count(tmp_path / "none", tmp_path) == 2


def test_a_group_that_is_throttled_above_a_size_counts_as_one_of_that_size(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("0::/\n")
    (tmp_path / "memory.high").write_text("700\n")

    assert memory_bytes(tmp_path / "own", tmp_path) == 700
