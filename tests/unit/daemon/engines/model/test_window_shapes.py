"""The windows that will come have the frames that the sampler gives."""

import pytest

from daemon.engines.model.window_shapes import ExpectedWindows, WindowShape
from daemon.frame_look import FrameSize, MaxFrameSize, PixelBudget


def as_they_are(num_frames: int, own: FrameSize, budget: PixelBudget) -> FrameSize:
    return own


def within_the_budget(num_frames: int, own: FrameSize, budget: PixelBudget) -> FrameSize:
    return own.within(budget.max_pixels)


@pytest.mark.parametrize(
    ("max_frame_size", "max_pixels", "height", "width"),
    [
        (None, None, 1080, 1920),
        (None, 8_912_896, 1080, 1920),
        (None, 320 * 180, 180, 320),
        (MaxFrameSize(1280, 720), None, 720, 1280),
        (MaxFrameSize(683, 683), None, 384, 682),
        (MaxFrameSize(512, 100), None, 100, 176),
        (MaxFrameSize(1, 1), None, 2, 2),
    ],
)
def test_frames_are_as_large_as_the_model_has_a_use_for(
    max_frame_size: MaxFrameSize | None, max_pixels: int | None, height: int, width: int
) -> None:
    (shape,) = ExpectedWindows((8,), 8, max_pixels).shapes(max_frame_size, as_they_are)

    assert shape == WindowShape(8, height, width)


def test_each_number_of_frames_is_a_shape_the_largest_first() -> None:
    shapes = ExpectedWindows((4, 20, 4, 8), 64).shapes(None, as_they_are)

    assert [shape.num_frames for shape in shapes] == [20, 8, 4]


def test_what_frames_may_cost_bounds_them() -> None:
    budgets = frozenset({PixelBudget(), PixelBudget(max_pixels=480 * 270)})

    shapes = ExpectedWindows((8,), 8, None, budgets).shapes(None, within_the_budget)

    assert shapes == [WindowShape(8, 1080, 1920), WindowShape(8, 270, 480)]


def test_a_shape_says_what_it_is() -> None:
    assert str(WindowShape(8, 720, 1280)) == "8 frames of 1280 x 720"
    assert str(WindowShape(1, 720, 1280)) == "1 frame of 1280 x 720"
    assert WindowShape(2, 10, 20).size_bytes == 1200


def test_a_shape_is_halved_until_its_frames_are_small() -> None:
    shape: WindowShape | None = WindowShape(8, 720, 1280)
    sizes = []
    while shape is not None:
        sizes.append((shape.height, shape.width))
        shape = shape.smaller()

    assert sizes == [(720, 1280), (360, 640), (180, 320), (90, 160), (45, 80)]


def test_windows_without_frames_and_with_too_many_are_none() -> None:
    for counts in ((), (9,)):
        with pytest.raises(ValueError, match="no windows"):
            ExpectedWindows(counts, 8)
