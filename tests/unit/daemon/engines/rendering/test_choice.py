"""How many renderers an engine has."""

from typing import Literal

import pytest

from daemon.engines.rendering.choice import how_many

GIB = 2**30


@pytest.mark.parametrize(
    ("asked", "cores", "memory", "expected"),
    [
        ("auto", 1, 64 * GIB, 0),
        ("auto", 3, 64 * GIB, 0),
        ("auto", 4, 64 * GIB, 1),
        ("auto", 4, 4 * GIB, 0),  # a small limit of memory
        ("auto", 24, 64 * GIB, 4),
        ("auto", 24, 8 * GIB, 2),
        ("auto", 256, 1024 * GIB, 16),
        (0, 64, 64 * GIB, 0),
        (3, 64, 4 * GIB, 3),
        (8, 2, 64 * GIB, 2),  # none wider than the machine
    ],
)
def test_renderers_are_no_wider_than_the_machine(
    asked: int | Literal["auto"], cores: int, memory: int, expected: int
) -> None:
    assert how_many(asked, cores, memory) == expected
