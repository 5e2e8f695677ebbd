"""The size that frames are scaled down to never costs the model a pixel it would have kept."""

from types import SimpleNamespace
from typing import Any

import pytest

from daemon.engines.model.frame_size import least_frames, max_frame_size
from daemon.frame_look import MaxFrameSize


def processor(**size: int) -> Any:
    part = SimpleNamespace(size=size)
    return SimpleNamespace(video_processor=part, image_processor=part)


def scaled(size: MaxFrameSize, height: int, width: int) -> tuple[float, float]:
    factor = min(1.0, size.width / width, size.height / height)
    return height * factor, width * factor


@pytest.mark.parametrize(("height", "width"), [(1080, 1920), (1920, 1080), (1080, 1080), (1080, 1440)])
def test_a_fixed_size_is_still_filled_on_both_edges(height: int, width: int) -> None:
    size = max_frame_size(processor(height=384, width=384), "video")

    assert size == MaxFrameSize(683, 683)
    assert min(scaled(size, height, width)) >= 384


@pytest.mark.parametrize(("height", "width"), [(1080, 1920), (1920, 1080), (1080, 1080)])
def test_a_budget_of_pixels_is_still_used_up(height: int, width: int) -> None:
    budget_px = 768 * 28 * 28
    size = max_frame_size(processor(shortest_edge=3136, longest_edge=budget_px), "video")

    assert size is not None
    high, wide = scaled(size, height, width)
    assert high * wide >= budget_px * 0.999


def test_croppers_images_and_unknown_sizes_get_native_frames() -> None:
    cropper = processor(height=224, width=224)
    cropper.video_processor.do_center_crop = True

    assert max_frame_size(cropper, "video") is None
    assert max_frame_size(processor(height=224, width=224), "image") is None
    assert max_frame_size(processor(shortest_edge=224), "video") is None
    assert max_frame_size(SimpleNamespace(), "video") is None


def test_a_size_above_any_frame_is_none() -> None:
    assert max_frame_size(processor(shortest_edge=4096, longest_edge=25_165_824), "video") is None


def test_frames_that_are_merged_in_pairs_come_in_pairs() -> None:
    pairs = SimpleNamespace(video_processor=SimpleNamespace(temporal_patch_size=2))

    assert (least_frames(pairs, "video"), least_frames(pairs, "image")) == (2, 1)
    assert least_frames(SimpleNamespace(), "video") == 1
