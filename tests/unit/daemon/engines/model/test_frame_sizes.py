"""The size that frames are scaled to is the one that the model's own processor gives them, at its real settings."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.errors import Poison, Reason
from daemon.config.settings import FramesSettings
from daemon.engines.model.frame_size import FrameSizes
from daemon.engines.model.video_resize import VideoResize
from daemon.frame_look import FrameSize, PixelBudget
from testing.repository import ROOT

pytestmark = [
    pytest.mark.slow,  # importing transformers takes most of it
    pytest.mark.timeout(600),
    *(pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning", "UserWarning")),
]

# what the checkpoints' preprocessor_config.json and video_preprocessor_config.json say of sizes
QWEN2_5_VL = {
    "min_pixels": 3136,
    "max_pixels": 12_845_056,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
}
QWEN3_VL = {
    "size": {"longest_edge": 25_165_824, "shortest_edge": 4096},
    "patch_size": 16,
    "temporal_patch_size": 2,
    "merge_size": 2,
}
LLAVA_ONEVISION = {"size": {"height": 384, "width": 384}, "do_center_crop": None}
GLM_4_1V = {
    "size": {"shortest_edge": 12_544, "longest_edge": 47_040_000},
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
}
INTERNVL3_HF = {"size": {"height": 448, "width": 448}}
LLAVA_NEXT_VIDEO = {
    "size": {"shortest_edge": 336},
    "crop_size": {"height": 336, "width": 336},
    "do_center_crop": True,
}
# the same rules with budgets that frames of a test reach
TINY_QWEN2_5 = QWEN2_5_VL | {"min_pixels": 28 * 28, "max_pixels": 112 * 112}
TINY_QWEN3 = QWEN3_VL | {"size": {"shortest_edge": 32 * 32, "longest_edge": 8 * 128 * 128}}

REAL = {
    "qwen2.5": ("Qwen2VLVideoProcessor", QWEN2_5_VL, 2),
    "qwen3": ("Qwen3VLVideoProcessor", QWEN3_VL, 2),
    "llava-onevision": ("LlavaOnevisionVideoProcessor", LLAVA_ONEVISION, 1),
    "glm": ("Glm4vVideoProcessor", GLM_4_1V, 2),
    "internvl": ("InternVLVideoProcessor", INTERNVL3_HF, 1),
    "llava-next-video": ("LlavaNextVideoVideoProcessor", LLAVA_NEXT_VIDEO, 1),
}
TINY = {
    "qwen2.5": ("Qwen2VLVideoProcessor", TINY_QWEN2_5, 2),
    "qwen3": ("Qwen3VLVideoProcessor", TINY_QWEN3, 2),
    "glm": ("Glm4vVideoProcessor", GLM_4_1V | {"size": {"shortest_edge": 784, "longest_edge": 200_000}}, 2),
    "llava-onevision": ("LlavaOnevisionVideoProcessor", {"size": {"height": 56, "width": 56}}, 1),
}
NO_BUDGET = PixelBudget()
HD, PORTRAIT = FrameSize(1920, 1080), FrameSize(1080, 1920)
_made: dict[str, Any] = {}


def processor(name: str, which: dict[str, tuple[str, dict[str, Any], int]]) -> tuple[Any, int]:
    transformers = pytest.importorskip("transformers")
    kind, values, least = which[name]
    key = f"{name}{values}"
    if key not in _made:
        _made[key] = getattr(transformers, kind)(**values)
    return _made[key], least


def sizes_of(name: str, which: dict[str, tuple[str, dict[str, Any], int]] = REAL, **given: Any) -> FrameSizes:
    video_processor, least = processor(name, which)
    return FrameSizes(VideoResize(video_processor, given), least)


def made_of(video_processor: Any, num_frames: int, size: FrameSize, **given: Any) -> dict[str, Any]:
    """Return the grid and the shapes that the processor makes of true frames."""
    frames = np.zeros((num_frames, size.height, size.width, 3), np.uint8)
    made = video_processor(videos=[frames], return_tensors="pt", do_sample_frames=False, **given)
    return {name: value.tolist() if name == "video_grid_thw" else tuple(value.shape) for name, value in made.items()}


@pytest.mark.parametrize(
    ("name", "num_frames", "own", "expected"),
    [
        ("qwen2.5", 8, HD, HD),  # 1932 x 1092 is more: the processor enlarges it itself
        ("qwen2.5", 8, FrameSize(3840, 2160), FrameSize(3836, 2156)),
        ("qwen2.5", 8, FrameSize(7680, 4320), FrameSize(4760, 2688)),
        ("qwen3", 8, FrameSize(1921, 1090), FrameSize(1920, 1088)),
        ("qwen3", 80, HD, FrameSize(736, 416)),  # the total budget, over all frames
        ("qwen3", 80, PORTRAIT, FrameSize(416, 736)),
        ("qwen3", 8, FrameSize(90, 50), FrameSize(90, 50)),
        ("llava-onevision", 8, HD, FrameSize(384, 384)),
        ("llava-onevision", 8, FrameSize(320, 240), FrameSize(320, 240)),
        ("internvl", 8, PORTRAIT, FrameSize(448, 448)),
        ("glm", 80, HD, FrameSize(1008, 560)),
        ("llava-next-video", 8, HD, FrameSize(597, 336)),
    ],
)
def test_the_size_is_what_the_processor_gives(name: str, num_frames: int, own: FrameSize, expected: FrameSize) -> None:
    assert sizes_of(name).of(num_frames, own, NO_BUDGET) == expected


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize(
    ("num_frames", "own"),
    [(1, HD), (2, PORTRAIT), (3, FrameSize(17, 400)), (7, FrameSize(640, 363)), (4, FrameSize(33, 29))],
)
def test_the_processor_makes_the_same_of_both(name: str, num_frames: int, own: FrameSize) -> None:
    video_processor, least = processor(name, REAL)
    size = sizes_of(name).of(num_frames, own, NO_BUDGET)
    given_frames = max(num_frames, least)

    assert made_of(video_processor, given_frames, size) == made_of(video_processor, given_frames, own)


@pytest.mark.parametrize("name", TINY)
@settings(max_examples=20, deadline=None)
@given(st.integers(1, 11), st.integers(8, 420), st.integers(8, 420))
def test_the_grid_is_the_same_for_every_size_and_count(name: str, num_frames: int, width: int, height: int) -> None:
    video_processor, least = processor(name, TINY)
    own = FrameSize(width, height)
    size = sizes_of(name, TINY).of(num_frames, own, NO_BUDGET)
    given_frames = max(num_frames, least)

    assert made_of(video_processor, given_frames, size) == made_of(video_processor, given_frames, own)
    assert size.pixels <= own.pixels


@pytest.mark.parametrize("name", REAL)
@settings(max_examples=20, deadline=None)
@given(st.integers(1, 200), st.integers(16, 4096), st.integers(16, 2176), st.sampled_from([None, 768, 64]))
def test_what_is_kept_is_never_more_than_what_is_given(
    name: str, num_frames: int, width: int, height: int, frame_tokens: int | None
) -> None:
    video_processor, least = processor(name, REAL)
    resize, own = VideoResize(video_processor, {}), FrameSize(width, height)
    size = FrameSizes(resize, least).of(num_frames, own, PixelBudget(max_frame_tokens=frame_tokens))

    if frame_tokens is not None:
        assert size.pixels <= frame_tokens * resize.cell_px**2
        return
    kept = resize.kept(max(num_frames, least), size)
    assert kept == resize.kept(max(num_frames, least), own)
    assert kept is None or size == own or kept.size.pixels <= size.pixels


@pytest.mark.parametrize(
    ("given_settings", "expected"),
    [
        ({}, HD),
        ({"max_pixels": 602_112}, FrameSize(1008, 560)),
        ({"size": {"longest_edge": 602_112}}, FrameSize(1008, 560)),
        ({"size": {"shortest_edge": 3136, "longest_edge": 602_112}}, FrameSize(1008, 560)),
        ({"do_resize": False}, HD),
        ({"fps": 2.0, "nonsense": 1}, HD),
    ],
)
def test_the_engines_arguments_are_merged_into_the_checkpoints(
    given_settings: dict[str, Any], expected: FrameSize
) -> None:
    assert sizes_of("qwen2.5", **given_settings).of(8, HD, NO_BUDGET) == expected


def test_a_cap_for_each_frame_is_the_processors_own() -> None:
    capped = sizes_of("qwen3", cap_pixels_per_frame=True)

    assert capped.of(8, HD, NO_BUDGET) == FrameSize(1152, 640)
    assert sizes_of("qwen3").of(8, HD, PixelBudget(max_frame_tokens=768)) == FrameSize(1152, 640)
    assert sizes_of("qwen2.5").of(8, HD, PixelBudget(max_frame_tokens=768)) == FrameSize(1008, 560)


@pytest.mark.parametrize("name", ["qwen2.5", "qwen3", "glm"])
@pytest.mark.parametrize("num_frames", [1, 2, 7, 8, 40])
def test_pixels_of_a_frame_are_bounded_by_the_familys_own_rule(name: str, num_frames: int) -> None:
    video_processor, least = processor(name, REAL)
    resize = VideoResize(video_processor, {})
    size = FrameSizes(resize, least).of(num_frames, HD, PixelBudget(max_pixels=200_000))

    kept = resize.kept(max(num_frames, least), size)
    assert kept is not None
    assert size == kept.size
    assert 160_000 < size.pixels <= 200_000
    assert (size.width % resize.cell_px, size.height % resize.cell_px) == (0, 0)


def counted(name: str) -> FrameSizes:
    """Return sizes whose tokens are counted by the processor over true frames, as an engine counts them."""
    video_processor, least = processor(name, REAL)

    def count(num_frames: int, size: FrameSize) -> int:
        counts.append((num_frames, size))
        made = made_of(video_processor, max(num_frames, least), size)
        if "video_grid_thw" not in made:
            return num_frames * 196 + 1
        ((time, height, width),) = made["video_grid_thw"]
        return int(time * height * width // 4)

    counts: list[tuple[int, FrameSize]] = []
    sizes = FrameSizes(VideoResize(video_processor, {}), least, count)
    sizes.counts = counts  # type: ignore[attr-defined]
    return sizes


@pytest.mark.parametrize("name", ["qwen2.5", "qwen3"])
@pytest.mark.parametrize("num_frames", [1, 5, 8, 64])
@pytest.mark.parametrize("most", [24_576, 2_000, 400])
def test_tokens_of_a_window_are_met_by_smaller_frames(name: str, num_frames: int, most: int) -> None:
    sizes = counted(name)
    size = sizes.of(num_frames, HD, PixelBudget(max_vision_tokens=most))

    tokens = sizes.tokens(num_frames, size)
    assert tokens is not None
    assert tokens <= most
    before = sizes.tokens(num_frames, HD)
    assert before is not None
    assert tokens == before or tokens > most // 4
    assert abs(size.width / size.height - 16 / 9) < 0.7
    assert len(sizes.counts) == 2  # type: ignore[attr-defined]  # small windows; the rest is arithmetic


def test_qwens_own_total_is_what_its_authors_compute() -> None:
    size = counted("qwen2.5").of(200, HD, PixelBudget(max_frame_tokens=768, max_vision_tokens=24_576))

    share_px = 24_576 * 28 * 28 * 2 // 200  # qwen-vl-utils: total_pixels / nframes * FRAME_FACTOR
    assert size == sizes_of("qwen2.5").of(200, HD, PixelBudget(max_pixels=share_px))


def test_tokens_that_no_size_meets_are_a_rejection_that_names_the_key() -> None:
    with pytest.raises(Poison, match=r"cost 1569 vision tokens however small.*frames\.max_vision_tokens") as fault:
        counted("llava-onevision").of(8, HD, PixelBudget(max_vision_tokens=500))

    assert fault.value.reason == Reason.OVER_CONTEXT


def test_a_processor_that_refuses_is_a_rejection() -> None:
    def refuse(num_frames: int, size: FrameSize) -> int:
        raise ValueError("absolute aspect ratio must be smaller than 200")

    with pytest.raises(Poison, match="aspect ratio") as fault:
        FrameSizes(None, count=refuse).of(8, FrameSize(4000, 2), PixelBudget(max_vision_tokens=10))

    assert fault.value.reason == Reason.ENGINE_REFUSED


def test_a_processor_that_resizes_twice_gets_frames_as_they_are() -> None:
    video_processor, _ = processor("minicpm", {"minicpm": ("MiniCPMV4_6VideoProcessor", {}, 1)})

    assert FrameSizes(VideoResize(video_processor, {})).of(8, HD, NO_BUDGET) == HD


def test_without_a_rule_frames_keep_their_size_or_shape() -> None:
    sizes = FrameSizes(None)

    assert sizes.of(8, HD, NO_BUDGET) == HD
    assert sizes.of(8, HD, PixelBudget(max_pixels=230_400)) == FrameSize(640, 360)
    assert sizes.of(8, HD, PixelBudget(max_frame_tokens=768)).pixels <= 768 * 28 * 28
    assert sizes.of(8, FrameSize(4000, 2), PixelBudget(max_pixels=100)) == FrameSize(100, 1)
    assert sizes.tokens(8, HD) is None


@given(st.integers(1, 8192), st.integers(1, 8192), st.integers(1, 10**8))
def test_a_shape_within_a_bound_has_no_more_pixels(width: int, height: int, bound: int) -> None:
    size = FrameSize(width, height).within(bound)

    assert 1 <= size.pixels <= bound
    assert size.width <= width
    assert size.height <= height


@pytest.mark.parametrize(
    ("name", "title"),
    [("qwen2.5", "Qwen2.5-VL"), ("qwen3", "Qwen3-VL"), ("glm", "GLM-4.1V"), ("llava-onevision", "LLaVA-OneVision")],
)
def test_the_guide_has_these_numbers(name: str, title: str) -> None:
    sizes, cells = counted(name), []
    qwen = FramesSettings(preset="qwen").to_policy().budget
    for budget in (NO_BUDGET, qwen, PixelBudget(max_pixels=448 * 448)):
        size = sizes.of(8, HD, budget)
        tokens, megabytes = sizes.tokens(8, size), 8 * size.frame_bytes / 1e6
        cells.append(f"{size.width} x {size.height}: {tokens} tokens, {megabytes:.1f} MB")

    assert f"| {title} | {' | '.join(cells)} |" in (ROOT / "docs" / "operate.md").read_text()
