"""Windows and the frames shown in them: pure integer arithmetic over a clip's time stamps.

Media time is in integer nanoseconds and starts at the first frame shown, so ``pts_ns[0] == 0``. Every span is
half-open, ``[start_ns, exclusive_end_ns)``. Nothing here knows a decoder: the time stamps come from the packets.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from daemon.content.frames import Splice
from daemon.content.frames import frames_on_screen as frames_on_screen
from daemon.content.frames import neva_frame_indices as neva_frame_indices
from daemon.content.frames import sample_times as sample_times
from daemon.content.shots import ShotSpans
from daemon.content.spans import NS_PER_S as NS_PER_S
from daemon.content.spans import Cut as Cut
from daemon.content.spans import OneSpan
from daemon.content.spans import ShotPolicy as ShotPolicy
from daemon.content.spans import WindowPolicy as WindowPolicy
from daemon.frame_look import Look, PixelBudget

_WINDOWS_KEPT = 32  # more than are ever worked on at once

_COLOURS = {"white": "#ffffff", "grey": "#808080", "black": "#000000"}


@dataclass(frozen=True, slots=True)
class Window:
    """One span of a clip and the frames chosen for it.

    ``sample_ns`` are the times asked for, and ``frame_indices`` name the frames on screen then: they count the clip's
    frames in order of presentation, from 0. Both have one entry a frame shown; frames repeat where there are too few.
    """

    index: int
    start_ns: int
    exclusive_end_ns: int
    sample_ns: tuple[int, ...] = field(repr=False)
    frame_indices: tuple[int, ...] = field(repr=False)

    def __post_init__(self) -> None:
        if self.index < 0 or not 0 <= self.start_ns < self.exclusive_end_ns:
            raise ValueError(f"window {self.index} is not a span: [{self.start_ns}, {self.exclusive_end_ns}) ns")
        if not self.sample_ns or len(self.sample_ns) != len(self.frame_indices):
            raise ValueError(f"window {self.index}: {len(self.sample_ns)=} differs from {len(self.frame_indices)=}")

    @property
    def distinct_frames(self) -> int:
        """The number of different frames that are shown."""
        return len(set(self.frame_indices))


@dataclass(frozen=True, slots=True, eq=False)
class FrameSet:
    """The frames of one window, as the engine gets them: ``uint8[N, H, W, 3]`` RGB, read-only.

    ``pts_ns[k]`` is the time stamp of the frame that ``frames[k]`` really shows; ``substituted`` counts frames that
    the decoder did not give and that the one on screen before stands in for. ``decode_ms`` is what making it cost.
    ``memory_file`` is the descriptor of the memory file that the frames are mapped from, open as long as they are
    there; -1 where there is none.
    """

    window: Window
    frames: NDArray[np.uint8] = field(repr=False)
    pts_ns: tuple[int, ...] = field(repr=False)
    substituted: int = 0
    decode_ms: float = 0.0
    memory_file: int = field(default=-1, repr=False)
    shared: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.frames.dtype != np.uint8 or self.frames.ndim != 4 or self.frames.shape[3] != 3:
            raise ValueError(f"frames are uint8[N, H, W, 3], not {self.frames.dtype}{list(self.frames.shape)}")
        if not len(self.frames) == len(self.pts_ns) == len(self.window.sample_ns):
            raise ValueError(f"{len(self.frames)} frames for {len(self.window.sample_ns)} samples")
        self.frames.flags.writeable = False

    def share(self, shared: Any) -> None:
        """Let several requests about the window have what one of them rendered; engines look into ``shared``."""
        object.__setattr__(self, "shared", shared)

    def with_pixels(self, pixels: NDArray[np.uint8]) -> "FrameSet":
        """Return the same window with these frames instead, which lie in no memory file."""
        return replace(self, frames=pixels, memory_file=-1)

    def let_go(self) -> None:
        """Let the pixels go, and the memory with them once nobody else holds it; the shape stays."""
        object.__setattr__(self, "memory_file", -1)
        object.__setattr__(self, "frames", np.ndarray(self.frames.shape, np.uint8, b"\0", strides=(0, 0, 0, 0)))

    def __repr__(self) -> str:
        return f"FrameSet({self.window!r}, frames=uint8{list(self.frames.shape)})"


@dataclass(frozen=True, slots=True)
class FramePolicy:
    """The rule by which the frames of a window are chosen.

    ``rule`` is ``time`` (the frame on screen at evenly spread times) or ``neva`` (evenly spread frame indices, padded
    with the last). With ``fps`` the number of frames follows the window's length, between ``min_frames`` and
    ``max_frames``. ``splice`` shows a single frame. ``background`` is what transparent pixels are shown over, and
    ``tone_map`` says whether HDR is shown as SDR. The last three are what :attr:`budget` says.

    Plan hashes are made of the text of a policy, so fields that came later stand in it only where they say something.
    """

    rule: Literal["time", "neva"] = "time"
    num_frames: int = 8
    fps: float | None = None
    min_frames: int = 4
    max_frames: int = 64
    splice: Splice | None = None
    snap: Literal["exact", "keyframe"] = "exact"
    background: str = field(default="white", repr=False)
    tone_map: Literal["auto", "none"] = field(default="auto", repr=False)
    max_pixels: int | None = field(default=None, repr=False)
    max_vision_tokens: int | None = field(default=None, repr=False)
    max_frame_tokens: int | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        said = ((f, getattr(self, f.name)) for f in fields(self))
        return f"FramePolicy({', '.join(f'{f.name}={value!r}' for f, value in said if f.repr or value != f.default)})"

    @property
    def look(self) -> Look:
        """The same of how frames look, as a decoder takes it."""
        digits = _COLOURS.get(self.background, self.background).removeprefix("#")
        red, green, blue = bytes.fromhex(digits)
        return Look((red, green, blue), self.tone_map == "auto")

    @property
    def budget(self) -> PixelBudget:
        """The most that the frames of a window may cost."""
        return PixelBudget(self.max_pixels, self.max_vision_tokens, self.max_frame_tokens)

    @property
    def halved(self) -> "FramePolicy":
        """The same with half as many frames, and at least one."""
        fewer = {name: max(1, getattr(self, name) // 2) for name in ("num_frames", "min_frames", "max_frames")}
        return replace(self, **fewer, fps=None if self.fps is None else self.fps / 2)

    def frames_in(self, length_ns: int) -> int:
        """Return how many frames a window of ``length_ns`` shows."""
        if self.splice is not None:
            return 1
        if self.fps is None:
            return self.num_frames
        return min(max(round(length_ns * self.fps / NS_PER_S), self.min_frames), self.max_frames)


def _choose(pts_ns: NDArray[np.int64], span: tuple[int, int], policy: FramePolicy) -> tuple[tuple[int, ...], list[int]]:
    """Return the sample times and frame indices of one window."""
    start_ns, end_ns = span
    count = policy.frames_in(end_ns - start_ns)
    inside = slice(*(int(i) for i in np.searchsorted(pts_ns, [start_ns, end_ns], side="left")))
    first, length = inside.start, inside.stop - inside.start
    if policy.rule == "neva" and length > 0:
        indices = [first + i for i in neva_frame_indices(length, count, policy.splice)]
        return tuple(int(pts_ns[i]) for i in indices), indices
    if policy.splice is not None:
        at = {"first": start_ns, "middle": (start_ns + end_ns) // 2, "last": end_ns - 1}[policy.splice]
        return (at,), frames_on_screen(pts_ns, (at,))
    times = sample_times(start_ns, end_ns, count)
    return times, frames_on_screen(pts_ns, times)


def _choose_inside(
    pts_ns: NDArray[np.int64], span: OneSpan, policy: FramePolicy, key_frames: NDArray[np.int64] | None
) -> tuple[tuple[int, ...], list[int]]:
    """Return the same of a window that shows frames of its own alone: none of those before it, whatever is on screen.

    With ``key_frames``, each is the nearest of these at or before it, or the window's first; where it has none, itself.
    """
    first, end = (int(i) for i in np.searchsorted(pts_ns, [span.start_ns, span.end_ns], side="left"))
    if first == end:
        raise ValueError(f"no frame lies in {span}")
    times, indices = _choose(pts_ns, span.span(0), policy)
    indices = [min(max(index, first), end - 1) for index in indices]
    if key_frames is not None:
        own = key_frames[np.searchsorted(key_frames, first) : np.searchsorted(key_frames, end)]
        if len(own):
            at = np.maximum(np.searchsorted(own, indices, side="right") - 1, 0)
            indices = [int(i) for i in own[at]]
    return times, indices


def _key_frame_indices(keyframes: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """Return the indices of the key frames; a clip that marks none can only be shown from its first frame on."""
    if keyframes is None:
        raise ValueError("snap: keyframe needs to know which frames are key frames")
    return np.flatnonzero(keyframes) if keyframes.any() else np.zeros(1, np.int64)


class PlannedWindows(Sequence[Window]):
    """The windows of a clip, each worked out when it is asked for, and kept while its neighbours are.

    Windows that follow the clip's ``shots`` are those that are known, and more of them once more shots are.
    """

    def __init__(
        self,
        cut: Cut | ShotSpans | OneSpan,
        pts_ns: NDArray[np.int64],
        frames: FramePolicy,
        key_frames: NDArray[np.int64] | None,
        most: int | None = None,
    ) -> None:
        self._cut, self._pts_ns, self._frames, self._key_frames, self._most = cut, pts_ns, frames, key_frames, most
        self._kept: dict[int, Window] = {}
        self.shots = cut if isinstance(cut, ShotSpans) else None

    def __len__(self) -> int:
        return self._cut.count if self._most is None else min(self._most, self._cut.count)

    @property
    def is_complete(self) -> bool:
        """Whether no more windows can become known."""
        return self.shots is None or self.shots.is_complete

    @overload
    def __getitem__(self, at: int) -> Window: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Window, ...]: ...
    def __getitem__(self, at: int | slice) -> Window | tuple[Window, ...]:
        if isinstance(at, slice):
            return tuple(self[i] for i in range(*at.indices(len(self))))
        index = at + len(self) if at < 0 else at
        if not 0 <= index < len(self):
            raise IndexError(f"window {at} of {len(self)}")
        window = self._kept.get(index)
        if window is None:
            while len(self._kept) >= _WINDOWS_KEPT:
                del self._kept[next(iter(self._kept))]
            window = self._kept[index] = self._planned(index)
        return window

    @property
    def most_frames(self) -> int:
        """The most frames that one of them shows, or may show: the longer, the more."""
        return self._frames.frames_in(self._cut.longest_ns)

    def up_to(self, count: int) -> "PlannedWindows":
        """Return the first ``count`` windows."""
        return PlannedWindows(self._cut, self._pts_ns, self._frames, self._key_frames, min(count, len(self)))

    def span(self, index: int) -> tuple[int, int]:
        """Return the span of window ``index``, which takes no look at the frames."""
        return self._cut.span(index)

    def _planned(self, index: int) -> Window:
        span = self._cut.span(index)
        if isinstance(self._cut, OneSpan):
            return Window(
                index, *span, *map(tuple, _choose_inside(self._pts_ns, self._cut, self._frames, self._key_frames))
            )
        times, indices = _choose(self._pts_ns, span, self._frames)
        if self._key_frames is not None:
            at = np.maximum(np.searchsorted(self._key_frames, indices, side="right") - 1, 0)
            indices = [int(i) for i in self._key_frames[at]]
        return Window(index, *span, times, tuple(indices))


def plan_windows(
    pts_ns: NDArray[np.int64],
    duration_ns: int,
    windows: WindowPolicy,
    frames: FramePolicy,
    keyframes: NDArray[np.bool_] | None = None,
    span_ns: tuple[int, int] | None = None,
) -> PlannedWindows:
    """Return every window of a clip, with the frames shown in each; those that follow its shots become known later.

    A clip with a ``span_ns`` has that one window, in which a frame has to begin.

    ``pts_ns`` is ``int64[F]``, ascending, with ``pts_ns[0] == 0``; ``keyframes`` is ``bool[F]`` and is needed for
    ``snap: keyframe`` alone, which shows the nearest key frame at or before each chosen frame. A window without a frame
    of its own (a gap) shows the frame that is on screen through it.
    """
    if len(pts_ns) == 0 or pts_ns[0] != 0 or duration_ns <= pts_ns[-1]:
        raise ValueError(f"time stamps start at 0 and end before the clip does: {pts_ns[:1]}, {duration_ns=}")
    cut: Cut | ShotSpans | OneSpan
    if span_ns is not None:
        cut = OneSpan(*span_ns)
    else:
        cut = ShotSpans.of(duration_ns, windows) if windows.shots is not None else Cut.of(duration_ns, windows)
    key_frames = _key_frame_indices(keyframes) if frames.snap == "keyframe" else None
    return PlannedWindows(cut, pts_ns, frames, key_frames)
