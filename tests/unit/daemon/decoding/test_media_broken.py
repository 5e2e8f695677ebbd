"""Broken and hostile clips: each ends with a named reason, and the clip after it is none the worse."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from PIL import Image

from connectors.contract import Clip
from connectors.errors import Poison, Reason
from connectors.media.bytes import BytesMedia
from daemon.decoding.sampler import Sampler, UnreadableWindow
from daemon.windows import NS_PER_S, FramePolicy, FrameSet, WindowPolicy
from tests.corpus.broken import PLAYLISTS, audio_only, bomb, cut, damaged, declares_a_day, written, zero_frames
from tests.corpus.clips import Recipe, make
from tests.corpus.sampling import FIVE_SECONDS, clip_of, running, sample, wrong_frames

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]  # it starts decoders

FRAGMENTED = Recipe(frames=750, container_options={"movflags": "frag_keyframe+empty_moov"})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sampler() -> AsyncIterator[Sampler]:
    async with running() as started:
        yield started


HOPELESS: dict[str, tuple[Callable[[Path], Path], Reason]] = {
    "empty": (lambda at: written(at / "empty.mp4", b""), Reason.EMPTY),
    "text": (lambda at: written(at / "text.mp4", b"Not a video at all.\n" * 40), Reason.NOT_A_VIDEO),
    "noise": (lambda at: written(at / "noise.mp4", os.urandom(50_000)), Reason.NOT_A_VIDEO),
    "zeros": (lambda at: written(at / "zeros.mp4", bytes(50_000)), Reason.NOT_A_VIDEO),
    "audio_only": (lambda at: audio_only(at / "audio"), Reason.NO_VIDEO_STREAM),
    "cover_picture": (lambda at: audio_only(at / "cover", cover=True), Reason.NO_VIDEO_STREAM),
    "zero_frames": (lambda at: zero_frames(at / "none"), Reason.NO_FRAMES),
    "bomb_h264": (lambda at: bomb(at / "bomb", "libx264", "mp4"), Reason.OVER_BUDGET),
    "bomb_mjpeg": (lambda at: bomb(at / "bomb"), Reason.OVER_BUDGET),
    "cut_before_its_index": (lambda at: cut(at / "cut", 0.5, Recipe()), Reason.TRUNCATED),
    "cut_at_10": (lambda at: cut(at / "cut", 0.1), Reason.TRUNCATED),
    "animated_webp": (lambda at: _animation(at / "moves.webp"), Reason.UNSUPPORTED_CODEC),
    "damaged_index": (lambda at: _without_sizes(at / "index"), Reason.CORRUPT),
    "all_frames_damaged": (lambda at: damaged(at / "zeroed", 0, 1, Recipe()).path, Reason.NO_FRAMES),
}


def _animation(path: Path) -> Path:
    pictures = [Image.new("RGB", (64, 64), (level, 0, 0)) for level in (50, 150, 250)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100, lossless=True)
    return path


def _without_sizes(path: Path) -> Path:
    """Overwrite the movie box's content."""
    whole = make(path, Recipe())
    data = bytearray(whole.path.read_bytes())
    start = data.index(b"moov") + 4
    data[start:] = b"\xff" * (len(data) - start)
    return written(whole.path, bytes(data))


@pytest.mark.parametrize("name", HOPELESS)
async def test_what_cannot_be_captioned_is_named(name: str, tmp_path: Path, sampler: Sampler) -> None:
    build, reason = HOPELESS[name]
    neighbour = make(tmp_path / "neighbour", Recipe(frames=25))
    path = build(tmp_path)

    outcome = await sample(sampler, path)
    after = await sample(sampler, neighbour.path)

    assert (outcome.windows, outcome.reason) == ([], reason)
    assert str(tmp_path) not in str(outcome.fault)
    assert wrong_frames(after, neighbour) == []


@pytest.mark.parametrize("name", PLAYLISTS)
async def test_playlists_reach_nobody(name: str, tmp_path: Path, sampler: Sampler) -> None:
    with socket.create_server(("127.0.0.1", 0)) as canary:
        canary.setblocking(False)
        data = PLAYLISTS[name] % canary.getsockname()[1]
        outcome = await sample(sampler, written(tmp_path / "clip.mp4", data))
        with pytest.raises(BlockingIOError):
            canary.accept()

    assert outcome.windows == []
    assert outcome.reason in (Reason.FORBIDDEN_FORMAT, Reason.NOT_A_VIDEO)


@pytest.mark.parametrize(
    ("fraction", "recipe", "whole_windows", "words"),
    [
        (0.5, None, 1, "truncated at 9.36 s of 30.00 s"),
        (0.9, None, 5, "of 30.00 s"),
        (0.5, Recipe(frames=750, suffix="mkv"), 2, "of 30.00 s"),
        (0.5, Recipe("mpeg4", frames=750, suffix="avi"), 3, "of 30.00 s"),
        (0.5, FRAGMENTED, 2, "truncated at"),
    ],
)
async def test_a_cut_clip_keeps_its_whole_windows(
    fraction: float, recipe: Recipe | None, whole_windows: int, words: str, tmp_path: Path, sampler: Sampler
) -> None:
    path = cut(tmp_path / "cut", fraction, recipe)

    outcome = await sample(sampler, path, FIVE_SECONDS)

    assert outcome.kinds() == "F" * whole_windows
    assert outcome.reason == Reason.TRUNCATED
    assert words in str(outcome.fault)
    assert all(isinstance(w, FrameSet) and w.substituted == 0 for w in outcome.windows)
    assert all(w.window.exclusive_end_ns == (k + 1) * 5 * NS_PER_S for k, w in enumerate(outcome.windows))


async def test_a_cut_clip_as_one_window_has_none(tmp_path: Path, sampler: Sampler) -> None:
    outcome = await sample(sampler, cut(tmp_path / "cut", 0.5), WindowPolicy(whole=True))

    assert (outcome.windows, outcome.reason) == ([], Reason.TRUNCATED)


async def test_headers_are_not_believed(tmp_path: Path, sampler: Sampler) -> None:
    truth = declares_a_day(tmp_path / "day")

    outcome = await sample(sampler, truth.path)

    assert outcome.fault is None
    assert wrong_frames(outcome, truth) == []
    assert outcome.plan is not None
    assert outcome.plan.duration_ns == 3 * NS_PER_S


async def test_a_clip_over_the_longest_is_refused(tmp_path: Path) -> None:
    truth = make(tmp_path / "long", Recipe(frames=75))
    async with running(max_duration_s=2.0) as sampler:
        outcome = await sample(sampler, truth.path)

    assert (outcome.windows, outcome.reason) == ([], Reason.OVER_BUDGET)


async def test_a_clip_over_the_largest_is_refused(tmp_path: Path) -> None:
    truth = make(tmp_path / "large", Recipe())
    async with running(max_clip_bytes=1000) as sampler:
        outcome = await sample(sampler, truth.path)

    assert (outcome.windows, outcome.reason) == ([], Reason.TOO_LARGE)


async def test_windows_that_never_fit_are_refused(tmp_path: Path) -> None:
    truth = make(tmp_path / "clip", Recipe())
    frame_bytes = 256 * 144 * 3
    async with running(in_flight_bytes=15 * frame_bytes) as sampler:
        fits = await sample(sampler, truth.path)
        overlapping = await sample(sampler, truth.path, WindowPolicy(NS_PER_S, NS_PER_S // 2, 0))
        large = await sample(sampler, truth.path, frames=FramePolicy(num_frames=16))

    assert fits.fault is None
    assert overlapping.reason == Reason.OVER_BUDGET
    assert "that overlap it need" in str(overlapping.fault)
    assert large.reason == Reason.OVER_BUDGET
    assert "limits.in_flight_bytes" in str(large.fault)


async def test_a_damaged_middle_is_passed_over(tmp_path: Path, sampler: Sampler) -> None:
    truth = damaged(tmp_path / "middle", 0.33, 0.67)

    outcome = await sample(sampler, truth.path, FIVE_SECONDS)

    assert outcome.fault is None
    assert "U" in outcome.kinds()
    assert outcome.kinds().startswith("F")
    assert outcome.kinds().endswith("FF")
    assert [w.window.index for w in outcome.windows] == list(range(6))
    for window in (outcome.windows[0], outcome.windows[-1], outcome.windows[-2]):
        assert isinstance(window, FrameSet)
        assert window.substituted == 0
    assert outcome.numbers()[0] == list(outcome.windows[0].window.frame_indices)
    assert outcome.numbers()[-1] == list(outcome.windows[-1].window.frame_indices)


async def test_a_damaged_start_keeps_its_time(tmp_path: Path, sampler: Sampler) -> None:
    truth = damaged(tmp_path / "start", 0, 0.2)

    outcome = await sample(sampler, truth.path, FIVE_SECONDS)

    assert outcome.fault is None
    assert isinstance(outcome.windows[0], UnreadableWindow)
    assert outcome.numbers()[-1] == list(outcome.windows[-1].window.frame_indices)


async def test_a_damaged_end_is_a_rejection(tmp_path: Path, sampler: Sampler) -> None:
    truth = damaged(tmp_path / "end", 0.6, 1)

    outcome = await sample(sampler, truth.path, FIVE_SECONDS)

    assert "U" not in outcome.kinds()
    assert 3 <= len(outcome.windows) < 6
    assert outcome.reason == Reason.CORRUPT


async def test_lost_frames_are_replaced_and_counted(tmp_path: Path, sampler: Sampler) -> None:
    truth = damaged(tmp_path / "little", 0.5, 0.503, value=0x5A)

    outcome = await sample(sampler, truth.path, FIVE_SECONDS, FramePolicy(fps=25, max_frames=200))

    substituted = 0
    for window in outcome.windows:
        assert isinstance(window, FrameSet)
        substituted += window.substituted
        wanted = window.window.frame_indices
        for number, pts_ns in zip(wanted, window.pts_ns, strict=True):
            assert pts_ns <= number * NS_PER_S // 25
        differing = [n for n, pts_ns in zip(wanted, window.pts_ns, strict=True) if pts_ns != n * NS_PER_S // 25]
        assert len(differing) == window.substituted
    assert 0 < substituted < 60


async def refused_after(change: Callable[[Path], None], sampler: Sampler, path: Path) -> Poison:
    """Change a clip's file between its plan and its first window, and return how the clip ends."""
    truth = make(path, Recipe(frames=250))
    plan = await sampler.plan(clip_of(truth.path), FIVE_SECONDS, FramePolicy())
    change(truth.path)
    with pytest.raises(Poison) as caught:
        await anext(sampler.frame_sets(plan))
    plan.close()
    return caught.value


async def test_a_file_that_grows_is_a_change(tmp_path: Path, sampler: Sampler) -> None:
    def grow(path: Path) -> None:
        with path.open("ab") as file:
            file.write(b"more")

    assert (await refused_after(grow, sampler, tmp_path / "growing")).reason == Reason.CHANGED


async def test_a_file_that_shrinks_is_a_change(tmp_path: Path, sampler: Sampler) -> None:
    def shrink(path: Path) -> None:
        os.truncate(path, 1000)

    assert (await refused_after(shrink, sampler, tmp_path / "shrinking")).reason == Reason.CHANGED


async def test_a_file_that_vanishes_is_read_to_its_end(tmp_path: Path, sampler: Sampler) -> None:
    truth = make(tmp_path / "vanishing", Recipe(frames=250))

    plan = await sampler.plan(clip_of(truth.path), FIVE_SECONDS, FramePolicy())
    truth.path.unlink()
    windows = [window async for window in sampler.frame_sets(plan)]
    plan.close()

    assert len(windows) == 2
    for window in windows:
        assert isinstance(window, FrameSet)
        sampler.release(window)


async def test_clips_in_memory_are_read(tmp_path: Path, sampler: Sampler) -> None:
    truth = make(tmp_path / "memory", Recipe())
    media = BytesMedia("memory.mp4", truth.path.read_bytes())

    plan = await sampler.plan(Clip("m", "s", media, 0), FIVE_SECONDS, FramePolicy())
    media.close()
    (window,) = [window async for window in sampler.frame_sets(plan)]
    plan.close()

    assert isinstance(window, FrameSet)
    sampler.release(window)


async def test_many_bad_clips_at_once_harm_no_good_one(tmp_path: Path) -> None:
    good = [make(tmp_path / f"good{k}", Recipe(frames=50)) for k in range(4)]
    bad = [
        cut(tmp_path / "cut", 0.3),
        damaged(tmp_path / "damaged", 0, 1, Recipe()).path,
        audio_only(tmp_path / "audio"),
    ]
    async with running(decoders=2) as sampler:
        outcomes = await asyncio.gather(*(sample(sampler, path) for path in [*bad, *(g.path for g in good), *bad]))

    for truth, outcome in zip(good, outcomes[3:7], strict=True):
        assert outcome.fault is None
        assert wrong_frames(outcome, truth) == []
    assert all(outcome.fault is not None for outcome in outcomes[:3] + outcomes[7:])
