"""The size of the machine, as far as this process may use it."""

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
