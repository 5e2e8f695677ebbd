"""Several threads, each with a group of pictures of its own: the frames that one thread shows, damaged or not."""

import os
from pathlib import Path

import numpy as np
import pytest

from daemon.decoding.child.frame_writer import AvWriter
from daemon.decoding.child.pyav import another_decoder, open_video
from daemon.decoding.child.session import Session, open_clip
from daemon.frame_look import FrameSize
from daemon.memory_file import make as make_memory
from daemon.memory_file import mapped
from daemon.windows import NS_PER_S, FramePolicy, WindowPolicy, plan_windows
from tests.corpus.clips import Recipe, Truth, make
from tests.corpus.painted import HEIGHT, WIDTH, read
from tests.unit.daemon.decoding.child.counting import LIMITS
from tests.unit.daemon.decoding.child.damaged import damaged_copy
from tests.unit.daemon.decoding.child.larger import bytes_read, larger_copy

SIZE = FrameSize(WIDTH, HEIGHT)


class Windows:
    """The windows of a clip, filled by so many threads each, with others opened ahead."""

    def __init__(self, path: Path, policy: WindowPolicy, snap: str = "exact") -> None:
        descriptor = os.open(path, os.O_RDONLY)
        clip = open_clip(descriptor, LIMITS, lambda: None, 2)
        index = clip.index
        frames = FramePolicy(num_frames=8, snap=snap)  # type: ignore[arg-type]
        self.windows = plan_windows(index.pts_ns, index.duration_ns, policy, frames, index.keyframes)
        self.session = Session(descriptor, "av", index, SIZE, LIMITS, None, clip.cursor)
        self._opened: dict[int, np.ndarray] = {}
        self._next = 0

    @property
    def writer(self) -> AvWriter:
        assert isinstance(self.session._writer, AvWriter)
        return self.session._writer

    def fill(self, at: int, threads: int, ahead: int) -> tuple[list[int], np.ndarray]:
        """Return what window ``at`` says that it shows, and its frames."""
        for window in self.windows[self._next : max(self._next, at + 1 + ahead)]:
            size_bytes = len(window.frame_indices) * SIZE.frame_bytes
            memory = make_memory("test", size_bytes)
            self._opened[window.index] = mapped(memory, size_bytes).reshape(-1, SIZE.height, SIZE.width, 3)
            self.session.add(window.index, memory, list(window.frame_indices), SIZE)
            self._next = window.index + 1
        wanted = sorted({i for window in self.windows[at : at + 6] for i in window.frame_indices})
        self.session.want(wanted, threads)
        return self.session.fill(at), self._opened.pop(at)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return make(tmp_path_factory.mktemp("clips") / "clip", Recipe(frames=300))


@pytest.mark.parametrize("snap", ["exact", "keyframe"])
@pytest.mark.parametrize("stride_s", [2, 1])
@pytest.mark.parametrize("ways", [((2, 1),), ((2, 0),), ((2, 1), (1, 0), (3, 2), (2, 0)), ((1, 2), (2, 1))])
def test_threads_show_the_frames_asked_for(
    truth: Truth, snap: str, stride_s: int, ways: tuple[tuple[int, int], ...]
) -> None:
    filled = Windows(truth.path, WindowPolicy(2 * NS_PER_S, stride_s * NS_PER_S, NS_PER_S), snap)

    for at, window in enumerate(filled.windows):
        threads, ahead = ways[at % len(ways)]
        shown, frames = filled.fill(at, threads, ahead)
        assert shown == list(window.frame_indices) == [int(read(frame)) for frame in frames]
        if at == 2:
            filled.session.park()

    filled.session.close()


def test_groups_are_decoded_by_others_than_the_place_that_reads(truth: Truth) -> None:
    filled = Windows(truth.path, WindowPolicy(whole=True))

    filled.fill(0, 2, 0)

    assert filled.writer.has_crew
    assert filled.writer._cursor.may_share
    assert filled.writer._cursor.fed <= 8  # for the first frame, to plan the clip
    filled.session.close()


def test_what_a_group_lacks_is_made_up_for_as_by_one_thread(truth: Truth, tmp_path: Path) -> None:
    damaged = damaged_copy(truth.path, tmp_path)
    policy = WindowPolicy(2 * NS_PER_S, 2 * NS_PER_S, NS_PER_S)
    alone, together = Windows(damaged, policy), Windows(damaged, policy)

    for at in range(len(alone.windows)):
        expected, found = alone.fill(at, 1, 0), together.fill(at, 2, 1)
        assert found[0] == expected[0]
        assert (found[1] == expected[1]).all()

    assert not together.writer._cursor.may_share
    for one in (alone, together):
        one.session.close()


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("options", [{}, {"bf": "0"}, {"x264-params": "bitstream-restriction=0"}])
def test_one_more_decoder_knows_the_order_of_frames_and_reads_no_media_for_it(
    tmp_path: Path, suffix: str, options: dict[str, str]
) -> None:
    path = make(tmp_path / "clip", Recipe(frames=100, suffix=suffix, options=options)).path
    path = larger_copy(path, tmp_path / f"large.{suffix}")
    descriptor = os.open(path, os.O_RDONLY)
    container, stream = open_video(descriptor, LIMITS)
    at, before = os.lseek(descriptor, 0, os.SEEK_CUR), bytes_read()

    decoder = another_decoder(descriptor, LIMITS, stream)

    assert decoder.has_b_frames == stream.codec_context.has_b_frames == (options != {"bf": "0"})
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == at
    if suffix == "mp4":  # Matroska's header does not say the order, so there packets are looked at
        assert bytes_read() - before < 200_000
    container.close()
    os.close(descriptor)
