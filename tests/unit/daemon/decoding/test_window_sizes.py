"""Windows of one clip may have frames of different sizes; a frame that two of them show is right in both."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from connectors.errors import Poison, Reason
from daemon.decoding.child.pixels import Converter
from daemon.decoding.fields import decode, encode
from daemon.decoding.media import MediaLimits
from daemon.decoding.protocol import Decode, reading
from daemon.engines.model.frame_size import FrameSizes
from daemon.frame_look import FrameSize, Look, PixelBudget
from daemon.windows import NS_PER_S, FramePolicy, FrameSet, WindowPolicy
from tests.corpus.clips import Recipe, Truth, make
from tests.corpus.sampling import Outcome, running, sample, wrong_frames

pytestmark = pytest.mark.slow  # it starts decoders

TWO_A_SECOND = FramePolicy(fps=2.0, min_frames=1)
SIZES = {4: FrameSize(192, 160), 5: FrameSize(128, 96), 6: FrameSize(320, 96), 7: FrameSize(128, 112)}
OVERLAPPING = WindowPolicy(2 * NS_PER_S, NS_PER_S, 3 * NS_PER_S // 2)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """A clip of 5.4 s: its last window has five frames, where the others have four."""
    return make(tmp_path_factory.mktemp("clips") / "clip", Recipe(frames=135))


def by_count(num_frames: int, own: FrameSize, budget: PixelBudget) -> FrameSize:
    assert (own, budget) == (FrameSize(256, 144), PixelBudget())
    return SIZES[num_frames]


def sizes_of(outcome: Outcome) -> list[tuple[int, FrameSize]]:
    shapes = [window.frames.shape for window in outcome.windows if isinstance(window, FrameSet)]
    return [(shape[0], FrameSize(shape[2], shape[1])) for shape in shapes]


async def test_each_window_has_the_size_of_its_number_of_frames(truth: Truth) -> None:
    async with running(by_count) as sampler:
        outcome = await sample(sampler, truth.path, OVERLAPPING, TWO_A_SECOND)

    sizes = sizes_of(outcome)
    assert len({count for count, _ in sizes}) == 2
    assert [SIZES[count] for count, _ in sizes] == [size for _, size in sizes]
    assert wrong_frames(outcome, truth) == []


async def test_sizes_are_asked_for_once_for_clips_alike_and_again_by_another_rule(truth: Truth) -> None:
    asked: list[int] = []

    def noting(num_frames: int, own: FrameSize, budget: PixelBudget) -> FrameSize:
        asked.append(num_frames)
        return by_count(num_frames, own, budget)

    async with running(noting) as sampler:
        outcomes = [await sample(sampler, truth.path, OVERLAPPING, TWO_A_SECOND) for _ in range(2)]
        assert sorted(asked) == [4, 5]
        assert sizes_of(outcomes[0]) == sizes_of(outcomes[1])
        sampler.scale_by(lambda *_: FrameSize(64, 36))
        outcome = await sample(sampler, truth.path, OVERLAPPING, TWO_A_SECOND)

    assert {size for _, size in sizes_of(outcome)} == {FrameSize(64, 36)}


async def test_a_frame_that_windows_of_two_sizes_show_is_decoded_once_and_right_in_both(truth: Truth) -> None:
    async with running(by_count) as sampler:
        outcome = await sample(sampler, truth.path, OVERLAPPING, TWO_A_SECOND)

    *_, before, last = (window.window for window in outcome.windows if isinstance(window, FrameSet))
    assert len(before.frame_indices) != len(last.frame_indices)
    assert min(last.frame_indices) <= max(before.frame_indices)  # they overlap
    assert wrong_frames(outcome, truth) == []


async def test_the_child_is_told_again_when_it_is_replaced(truth: Truth) -> None:
    async with running(by_count) as sampler:
        sampler.pool._clips_a_child = 1
        for _ in range(2):
            outcome = await sample(sampler, truth.path, OVERLAPPING, TWO_A_SECOND, first_window=2)
            assert wrong_frames(outcome, truth) == []
            assert outcome.fault is None


async def test_small_frames_fit_where_the_clips_own_do_not(truth: Truth) -> None:
    room = 40 * 64 * 36 * 3
    policy = FramePolicy(num_frames=16)
    async with running(FrameSizes(None).of, in_flight_bytes=room) as sampler:
        refused = await sample(sampler, truth.path, WindowPolicy(), policy)
        shown = await sample(sampler, truth.path, WindowPolicy(), FramePolicy(num_frames=16, max_pixels=64 * 36))

    assert refused.reason == Reason.OVER_BUDGET
    assert shown.fault is None
    assert sizes_of(shown) == [(16, FrameSize(64, 36))]


async def test_nevas_frames_are_as_they_are(truth: Truth) -> None:
    async with running(by_count) as sampler:
        outcome = await sample(sampler, truth.path, WindowPolicy(whole=True), FramePolicy(rule="neva", num_frames=5))

    assert sizes_of(outcome) == [(5, FrameSize(256, 144))]


async def test_a_budget_that_no_size_meets_ends_the_clip(truth: Truth) -> None:
    def refuse(num_frames: int, own: FrameSize, budget: PixelBudget) -> FrameSize:
        raise Poison(Reason.OVER_CONTEXT, "too many", origin="prompt")

    async with running(refuse) as sampler:
        outcome = await sample(sampler, truth.path)

    assert (outcome.windows, outcome.reason) == ([], Reason.OVER_CONTEXT)


def grey(width: int, height: int) -> av.VideoFrame:
    frame = av.VideoFrame(width, height, "gray8")
    frame.planes[0].update(bytes([200]) * frame.planes[0].buffer_size)
    return frame


def test_a_frame_of_the_clips_own_shape_fills_whatever_it_is_scaled_to(tmp_path: Path) -> None:
    out = np.zeros((64, 64, 3), np.uint8)

    Converter(VideoReformatter, Look(), FrameSize(64, 36)).write(grey(64, 36), out)

    assert out.min() > 150


def test_a_frame_of_another_shape_keeps_it_in_the_middle_of_black() -> None:
    out = np.full((72, 32, 3), 9, np.uint8)

    Converter(VideoReformatter, Look(), FrameSize(64, 36)).write(grey(36, 36), out, Fraction(1))

    lit = out[:, :, 0] > 150  # 36 of 64 columns, which are 18 of 32 here
    assert lit[:, 7:25].all()
    assert not lit[:, :7].any()
    assert not lit[:, 25:].any()
    assert out[:, :7].max() == 0


def test_a_scaler_is_kept_for_each_size() -> None:
    made: list[VideoReformatter] = []

    def new_scaler() -> VideoReformatter:
        made.append(VideoReformatter())
        return made[-1]

    converter = Converter(new_scaler, Look(), FrameSize(64, 36))
    small, large = np.zeros((18, 32, 3), np.uint8), np.zeros((36, 64, 3), np.uint8)
    for _ in range(5):
        converter.write(grey(64, 36), small)
        converter.write(grey(64, 36), large)

    assert len(made) == 2
    for width in range(1, 30):
        converter.write(grey(64, 36), np.zeros((18, width, 3), np.uint8))
    assert len(converter._scalers) == 8


def request(**changes: object) -> Decode:
    fields = {
        **reading(MediaLimits(10**6, 60.0), Look()),
        **{"session": 1, "decoder": "av", "opens": False, "width": 256, "height": 144, "target": 3, "targets": 1},
        **{"windows": (3, 4), "counts": (2, 1), "widths": (128, 64), "heights": (72, 36)},
        **{"frame_indices": (7, 9, 9), "wanted": (7, 9), **changes},
    }
    return Decode(**fields)  # type: ignore[arg-type]


def test_a_request_says_the_size_of_each_window() -> None:
    sent = decode(Decode, encode(request()))

    assert sent.new_windows == [(3, [7, 9], FrameSize(128, 72)), (4, [9], FrameSize(64, 36))]


@pytest.mark.parametrize("sides", [(0, 64), (128, 2**31), (1,) * 17])
def test_a_side_is_within_its_bounds(sides: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="is not from"):
        encode(request(widths=sides))
