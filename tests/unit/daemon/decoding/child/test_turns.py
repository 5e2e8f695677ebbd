"""Several windows are asked for at once: each is answered when it is done, and a turn ends after its time."""

import mmap
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from daemon.decoding.child import worker as child
from daemon.decoding.child.session import Session, open_clip
from daemon.decoding.child.worker import Worker
from daemon.decoding.fields import decode
from daemon.decoding.media import MediaLimits
from daemon.decoding.protocol import ANSWERS, PREFIX, Decode, Decoded, reading, unpack_prefix
from daemon.frame_look import FrameSize, Look
from daemon.windows import NS_PER_S, FramePolicy, Window, WindowPolicy, plan_windows
from tests.corpus.clips import Recipe, make
from tests.corpus.painted import HEIGHT, WIDTH, read
from tests.unit.daemon.decoding.child.counting import LIMITS

SIZE = FrameSize(WIDTH, HEIGHT)


@dataclass
class Asked:
    """A child's worker with an open clip of six windows, and what it says beside its answers."""

    worker: Worker
    windows: tuple[Window, ...]
    parent: socket.socket
    frames: dict[int, np.ndarray]

    def ask(self, target: int, targets: int) -> list[Decoded]:
        """Ask for windows; return what was said of each."""
        new = [window for window in self.windows[target : target + targets] if window.index not in self.frames]
        memory = [os.memfd_create("test") for _ in new]
        for window, one in zip(new, memory, strict=True):
            os.ftruncate(one, len(window.frame_indices) * SIZE.frame_bytes)
        request = Decode(
            **reading(MediaLimits(10**6, 60.0), Look()),
            **{"session": 1, "decoder": "av", "opens": False, "width": WIDTH, "height": HEIGHT},
            **{"target": target, "targets": targets, "windows": tuple(window.index for window in new)},
            counts=tuple(len(window.frame_indices) for window in new),
            widths=(WIDTH,) * len(new),
            heights=(HEIGHT,) * len(new),
            frame_indices=tuple(i for window in new for i in window.frame_indices),
            wanted=tuple(sorted({i for window in self.windows[target:] for i in window.frame_indices})),
        )
        for window, one in zip(new, memory, strict=True):
            whole = np.frombuffer(mmap.mmap(one, len(window.frame_indices) * SIZE.frame_bytes), np.uint8)
            self.frames[window.index] = whole.reshape(-1, HEIGHT, WIDTH, 3)
        last, _ = self.worker._decode(request, b"", memory)
        assert isinstance(last, Decoded)
        return [*self._said(), last]

    def _said(self) -> Iterator[Decoded]:
        while True:
            try:
                prefix = self.parent.recv(PREFIX.size)
            except BlockingIOError:
                return
            announced = unpack_prefix(prefix, ANSWERS)
            assert announced.kind is Decoded
            yield decode(Decoded, self.parent.recv(announced.header_bytes))

    def assert_shown(self, targets: range) -> None:
        """Check that these windows show their frames."""
        for at in targets:
            assert [read(frame) for frame in self.frames[at]] == list(self.windows[at].frame_indices)


@pytest.fixture
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    path = make(tmp_path_factory.mktemp("clip") / "clip", Recipe(frames=300)).path
    descriptor = os.open(path, os.O_RDONLY)
    clip = open_clip(descriptor, LIMITS, lambda: None)
    index = clip.index
    policy, frames = WindowPolicy(2 * NS_PER_S, 2 * NS_PER_S, NS_PER_S), FramePolicy(num_frames=4)
    windows = plan_windows(index.pts_ns, index.duration_ns, policy, frames, index.keyframes)
    parent, theirs = socket.socketpair()
    parent.setblocking(False)
    worker = Worker(theirs, 2**30)
    session = Session(descriptor, "av", index, SIZE, LIMITS, None, clip.cursor)
    worker._sessions.open(1, session)
    yield Asked(worker, tuple(windows), parent, {})
    session.close()
    parent.close()
    theirs.close()


def test_each_window_is_answered_when_it_is_done_and_the_last_one_says_that_it_is(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "TURN_S", 60.0)

    said = asked.ask(0, 3)

    assert [one.shown for one in said] == [window.frame_indices for window in asked.windows[:3]]
    assert [one.more for one in said] == [True, True, False]
    asked.assert_shown(range(3))


def test_a_turn_that_is_over_leaves_the_other_windows_for_the_next_one(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "TURN_S", 0.0)

    first = asked.ask(0, 3)
    second = asked.ask(1, 3)

    assert [one.more for one in first + second] == [False, False]
    assert [one.shown for one in first + second] == [window.frame_indices for window in asked.windows[:2]]
    asked.assert_shown(range(2))
