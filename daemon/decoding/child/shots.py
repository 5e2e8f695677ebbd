"""The places where a clip's picture cuts, found by PySceneDetect's detectors on small frames.

The clip is looked through once, from its first frame, and what is found depends on the clip alone: not on how far it
is looked through at a time, nor on where that was broken off. Behind two key frames that look alike and lie no further
apart than the shortest window no frame is decoded: a shot between them would be joined to its neighbours.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.decoding.child.cursor import FrameCursor
from daemon.decoding.child.pyav import new_scaler
from daemon.decoding.media import MediaLimits
from daemon.decoding.packet_index import PacketIndex

_LONGER_SIDE = 96  # of the small frames: cuts are found as well as on full ones, and noise is averaged away
_AREA, _BIT_EXACT, _ACCURATE_ROUNDING = 0x20, 0x80000, 0x40000  # libswscale's; the same small frames on every machine
_FRAMES_A_TURN = 250  # then other clips have theirs: a second or two of decoding
_ASKED_AHEAD = 256  # frames of which a decoder is told that they will be asked for, and as many again
_FRAMES_HELD = 24  # by a decoder, as for the frames of windows
_ALIVE_FRAMES = 50  # a sign of life after so many

# PySceneDetect's own defaults, which stand for a sensitivity of 0.5; 0 doubles them and 1 halves them
_RATIO, _LEAST_CHANGE, _BLACK = 3.0, 15.0, 12
_NEIGHBOURS = 2  # frames on each side that a frame's change is held against
_ALIKE = 0.4  # of the least change: two frames that differ by no more show the same
_FLASH_NS = 350_000_000  # a flash is shorter: pictures so far and twice as far before and behind a cut are compared
_APART_NS = 500_000_000  # cuts nearer to each other are one: a fade has several

Small = NDArray[np.uint8]


def import_detectors() -> None:
    """Import PySceneDetect, which behind the cage can't be done any more. It starts no program meanwhile."""
    path = os.environ.get("PATH")
    os.environ["PATH"] = ""  # it would try whether ffmpeg and mkvmerge are there
    try:
        import cv2
        import scenedetect  # noqa: F401

        cv2.setNumThreads(0)
    finally:
        if path is not None:
            os.environ["PATH"] = path


class ShotFinder:
    """Finds the frames that begin a shot; ``looked`` says before which frame all are known.

    It owns its descriptor, which nobody else reads from.
    """

    def __init__(
        self, descriptor: int, index: PacketIndex, limits: MediaLimits, sensitivity: float, min_ns: int
    ) -> None:
        self._descriptor, self._index, self._limits = descriptor, index, limits
        self._pts_ns, self._min_ns = index.pts_ns, min_ns
        self._changes = _Changes(sensitivity)
        self._least_change = _LEAST_CHANGE * _factor(sensitivity)
        self._cursor: FrameCursor | None = None
        self._wanted, self._told = range(0), range(0)  # frames that come next, and those that the cursor knows of
        self.cost_bytes = 0  # that its decoder is taken to hold
        self._scaler = new_scaler()
        self._last: Small | None = None
        self._walk = self._frames()
        self._recent: deque[tuple[int, Small]] = deque()  # frames that a cut may still be held against
        self._doubtful: dict[int, bool] = {}  # cuts that a frame further on may deny, and whether they end a fade
        self._cuts: list[int] = []
        self.looked = 0
        self.decoded = 0

    def look(self, known: int, until: int, alive: Callable[[], None]) -> list[int]:
        """Look on until the cuts before ``until`` are known, or for a turn; return those from frame ``known`` on.

        Whoever knows more than was looked through, as after another process had the clip, waits until it is again.
        """
        turn = 0
        if len(self._index) == 1:  # a picture, which has no cuts and may need more than a decoder
            self.looked = 1
        while self.looked < min(until, len(self._index)) and (self.looked <= known or turn < _FRAMES_A_TURN):
            step = next(self._walk, None)
            if step is None:
                self._end()
                break
            self._take(*step)
            turn += 1
            if turn % _ALIVE_FRAMES == 0:
                alive()
        return [cut for cut in self._cuts if known <= cut < self.looked]

    def park(self) -> None:
        """Let go of the decoder; the next frame opens it again."""
        if self._cursor is not None:
            self._cursor.close()
            self._cursor, self.cost_bytes = None, 0

    def close(self) -> None:
        """Close the descriptor."""
        self.park()
        os.close(self._descriptor)

    def _frames(self) -> Iterator[tuple[int, Small]]:
        """Yield the frames to look at, in order."""
        at, picture = 0, self._picture(0)
        yield at, picture
        keys = self._index.keys
        while (key := self._next_key(keys, at)) is not None:
            then = self._picture(key)
            is_near = self._pts_ns[key] - self._pts_ns[at] <= self._min_ns
            if not (is_near and _distance(picture, then) <= _ALIKE * self._least_change):
                yield from self._every(at + 1, key)
                then = self._picture(key)
            yield key, then
            at, picture = key, then
        yield from self._every(at + 1, len(self._index))

    def _every(self, first: int, end: int) -> Iterator[tuple[int, Small]]:
        """Yield all frames from one to before another. The decoder reads ahead, and is told what it will be asked."""
        for index in range(first, end):
            if (index - first) % _ASKED_AHEAD == 0:
                self._wanted = range(index, min(index + 2 * _ASKED_AHEAD, end + 1, len(self._index)))
            yield index, self._picture(index)

    def _next_key(self, keys: NDArray[np.int32], at: int) -> int | None:
        """Return the last key frame that is no further on than a shot is long at least, else the next one."""
        first = int(np.searchsorted(keys, at, side="right"))
        if first == len(keys):
            return None
        reach = int(np.searchsorted(self._pts_ns, self._pts_ns[at] + self._min_ns, side="right")) - 1
        last = int(np.searchsorted(keys, reach, side="right")) - 1
        return int(keys[max(first, last)])

    def _picture(self, index: int) -> Small:
        """Return a small frame in BGR; where the decoder does not give it, the one before."""
        if self._cursor is None:
            self._cursor = FrameCursor(self._descriptor, self._index, self._limits)
            self._told = range(0)
        if index not in self._wanted:
            self._wanted = range(index, index + 1)
        if self._told != self._wanted:
            self._cursor.want(self._wanted)
            self._told = self._wanted
        shown = self._cursor.get(index)
        self.decoded += 1
        if shown is not None and (shown[0] == index or self._last is None):
            self._last = self._small(shown[1])
            self.cost_bytes = shown[1].width * shown[1].height * 2 * _FRAMES_HELD
        if self._last is None:
            self._last = np.zeros((_LONGER_SIDE, _LONGER_SIDE, 3), np.uint8)
        return self._last

    def _small(self, frame: Any) -> Small:
        if self._last is None:
            scale = min(_LONGER_SIDE / max(frame.width, frame.height), 1.0)
            width, height = max(round(frame.width * scale), 8), max(round(frame.height * scale), 8)
        else:
            height, width = self._last.shape[:2]
        flags = _AREA | _BIT_EXACT | _ACCURATE_ROUNDING
        plane = self._scaler.reformat(frame, width, height, format="bgr24", interpolation=flags, threads=1).planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        return rows[:, : width * 3].reshape(height, width, 3).copy()

    def _take(self, index: int, picture: Small) -> None:
        """Take the next frame, and settle what it settles."""
        found, settled = self._changes.at(index, picture)
        for cut, is_fade in found:
            self._doubtful.setdefault(cut, is_fade)
        self._recent.append((index, picture))
        while self._doubtful and self._is_over(min(self._doubtful), min(settled, index)):
            self._settle()
        oldest_ns = self._pts_ns[min([settled, *self._doubtful])] - 3 * _FLASH_NS
        while len(self._recent) > 2 and self._pts_ns[self._recent[1][0]] <= oldest_ns:
            self._recent.popleft()
        self.looked = min([settled, *self._doubtful, index + 1])

    def _is_over(self, cut: int, settled: int) -> bool:
        """Return whether what a cut would be denied by has passed, and no cut before it will be found."""
        return cut < settled and bool(self._pts_ns[self._recent[-1][0]] - self._pts_ns[cut] >= 2 * _FLASH_NS)

    def _end(self) -> None:
        while self._doubtful:
            self._settle()
        self.looked = len(self._index)

    def _settle(self) -> None:
        """Keep the first doubtful cut unless a picture behind is one before, as after a flash or a moment of black."""
        cut = min(self._doubtful)
        is_fade = self._doubtful.pop(cut)
        if self._cuts and self._pts_ns[cut] - self._pts_ns[self._cuts[-1]] < _APART_NS:
            return
        before = [self._before(cut, _FLASH_NS), self._before(cut, 2 * _FLASH_NS)]
        if is_fade:
            before = [p for i, p in self._recent if i < cut and p.mean() >= 2 * _BLACK][-1:]
        behind = [self._behind(cut, _FLASH_NS), self._behind(cut, 2 * _FLASH_NS)]
        differs = _distance_in_shape if is_fade else _distance
        if all(differs(a, b) >= self._least_change for a in before for b in behind):
            self._cuts.append(cut)

    def _before(self, cut: int, by_ns: int) -> Small:
        """Return the last picture that lies so far before a cut, else the oldest that is there."""
        latest_ns = self._pts_ns[cut] - by_ns
        return next((p for i, p in reversed(self._recent) if self._pts_ns[i] <= latest_ns), self._recent[0][1])

    def _behind(self, cut: int, by_ns: int) -> Small:
        """Return the first picture that lies so far behind a cut, else the newest that is there."""
        earliest_ns = self._pts_ns[cut] + by_ns
        return next((p for i, p in self._recent if self._pts_ns[i] >= earliest_ns), self._recent[-1][1])


class _Changes:
    """PySceneDetect's detectors: of changes larger than their neighbours', and of pictures that come out of black."""

    def __init__(self, sensitivity: float) -> None:
        from scenedetect.detectors import AdaptiveDetector, ThresholdDetector

        factor = _factor(sensitivity)
        self._sudden = AdaptiveDetector(
            adaptive_threshold=_RATIO * factor,
            min_scene_len=0,
            window_width=_NEIGHBOURS,
            min_content_val=_LEAST_CHANGE * factor,
        )
        self._fades = ThresholdDetector(threshold=_BLACK, min_scene_len=0, fade_bias=1.0)
        self._seen: deque[int] = deque(maxlen=_NEIGHBOURS + 1)

    def at(self, index: int, picture: Small) -> tuple[list[tuple[int, bool]], int]:
        """Return the frames found to begin a shot, and before which frame none will be found any more.

        With each stands whether a fade ends there.
        """
        from scenedetect.common import FrameTimecode

        time = FrameTimecode(index, 25.0)  # frames are counted, so the rate is of no matter
        found = [(cut.frame_num, False) for cut in self._sudden.process_frame(time, picture)]
        found += [(cut.frame_num, True) for cut in self._fades.process_frame(time, picture)]
        self._seen.append(index)
        return [one for one in found if one[0] > 0], self._seen[0] + (len(self._seen) > _NEIGHBOURS)


def _factor(sensitivity: float) -> float:
    return float(2 ** (1 - 2 * sensitivity))


def _distance(one: Small, other: Small) -> float:
    """Return by how many of 255 steps two pictures differ on average."""
    return float(np.abs(one.astype(np.int16) - other).mean())


def _distance_in_shape(one: Small, other: Small) -> float:
    """Return the same of pictures that are made equally bright, as one that comes out of black and another are not."""
    bright, brighter = (picture * (128.0 / max(float(picture.mean()), 1.0)) for picture in (one, other))
    return float(np.abs(bright - brighter).mean())
