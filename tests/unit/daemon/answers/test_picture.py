"""Pictures that show nothing: black, or one that stands still; and those that do."""

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.answers.picture import look_at
from daemon.windows import FrameSet, Window

DRAW = np.random.default_rng(3)
SCENE = DRAW.integers(0, 256, (48, 64, 3))


def frames(*pictures: NDArray[np.int64]) -> FrameSet:
    pts = tuple(range(len(pictures)))
    return FrameSet(Window(0, 0, 10, pts, pts), np.stack(pictures).clip(0, 255).astype(np.uint8), pts)


def noise(most: int) -> NDArray[np.int64]:
    return DRAW.integers(0, most, SCENE.shape)


def moved() -> NDArray[np.int64]:
    changed = SCENE.copy()
    changed[10:14, 10:14] = 255 - changed[10:14, 10:14]  # 16 pixels of 3,072
    return changed


@pytest.mark.parametrize(
    ("pictures", "shows"),
    [
        ([noise(1), noise(1)], "black"),
        ([noise(17), noise(17)], "black"),
        ([SCENE, SCENE], "frozen"),
        ([SCENE, SCENE + noise(4)], "frozen"),
        ([SCENE, moved()], None),
        ([SCENE], None),
        ([SCENE, noise(1)], None),
    ],
)
def test_pictures(pictures: list[NDArray[np.int64]], shows: str | None) -> None:
    assert look_at(frames(*pictures)) == shows
