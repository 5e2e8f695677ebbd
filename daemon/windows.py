"""Windows and the frames shown in them: pure integer arithmetic over a clip's time stamps.

Media time is in integer nanoseconds and starts at the first frame shown, so ``pts_ns[0] == 0``. Every span is
half-open, ``[start_ns, exclusive_end_ns)``. Nothing here knows a decoder: the time stamps come from the packets.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from daemon.frame_look import Look, PixelBudget

NS_PER_S = 1_000_000_000
_WINDOWS_KEPT = 32  # more than are ever worked on at once

Splice = Literal["first", "middle", "last"]

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

    def __post_init__(self) -> None:
        if self.frames.dtype != np.uint8 or self.frames.ndim != 4 or self.frames.shape[3] != 3:
            raise ValueError(f"frames are uint8[N, H, W, 3], not {self.frames.dtype}{list(self.frames.shape)}")
        if not len(self.frames) == len(self.pts_ns) == len(self.window.sample_ns):
            raise ValueError(f"{len(self.frames)} frames for {len(self.window.sample_ns)} samples")
        self.frames.flags.writeable = False

    def let_go(self) -> None:
        """Let the pixels go, and the memory with them once nobody else holds it; the shape stays."""
        object.__setattr__(self, "memory_file", -1)
        object.__setattr__(self, "frames", np.broadcast_to(np.uint8(0), self.frames.shape))

    def __repr__(self) -> str:
        return f"FrameSet({self.window!r}, frames=uint8{list(self.frames.shape)})"


@dataclass(frozen=True, slots=True)
class WindowPolicy:
    """The rule by which a clip is divided: ``whole``, or windows of ``window_ns`` every ``stride_ns``.

    A tail shorter than ``min_tail_ns`` is merged into the window before it.
    """

    window_ns: int = 10 * NS_PER_S
    stride_ns: int = 10 * NS_PER_S
    min_tail_ns: int = 5 * NS_PER_S
    whole: bool = False

    def __post_init__(self) -> None:
        if not self.whole and (self.window_ns <= 0 or self.stride_ns <= 0 or self.min_tail_ns < 0):
            raise ValueError(f"no windows can be cut with {self}")


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

    def frames_in(self, length_ns: int) -> int:
        """Return how many frames a window of ``length_ns`` shows."""
        if self.splice is not None:
            return 1
        if self.fps is None:
            return self.num_frames
        return min(max(round(length_ns * self.fps / NS_PER_S), self.min_frames), self.max_frames)


@dataclass(frozen=True, slots=True)
class Cut:
    """The half-open spans of a clip: ``count`` of them, one every ``stride_ns``, the last up to ``end_ns``."""

    count: int
    window_ns: int
    stride_ns: int
    end_ns: int

    @classmethod
    def of(cls, duration_ns: int, policy: WindowPolicy) -> "Cut":
        """Cut a clip of this duration."""
        if duration_ns <= 0:
            raise ValueError(f"a clip of {duration_ns} ns has no windows")
        if policy.whole:
            return cls(1, duration_ns, duration_ns, duration_ns)
        # an overlapping window that starts after another has reached the end would show nothing new
        to_the_end = 1 + -(-max(duration_ns - policy.window_ns, 0) // policy.stride_ns)
        count = min(to_the_end, -(-duration_ns // policy.stride_ns))
        start_ns = (count - 1) * policy.stride_ns
        end_ns = min(start_ns + policy.window_ns, duration_ns)
        if count > 1 and end_ns - start_ns < min(policy.min_tail_ns, policy.window_ns):
            count -= 1
        return cls(count, policy.window_ns, policy.stride_ns, end_ns)

    def span(self, index: int) -> tuple[int, int]:
        """Return the span of window ``index``."""
        start_ns = index * self.stride_ns
        return start_ns, self.end_ns if index == self.count - 1 else start_ns + self.window_ns


def sample_times(start_ns: int, exclusive_end_ns: int, count: int) -> tuple[int, ...]:
    """Return ``count`` times spread evenly over the span, each in the middle of its share."""
    length_ns = exclusive_end_ns - start_ns
    return tuple(start_ns + (2 * k + 1) * length_ns // (2 * count) for k in range(count))


def neva_frame_indices(length: int, num_frames: int, splice: Splice | None = None) -> list[int]:
    """Return Video NeVA's choice among ``length`` frames (NeMo v2.0.0, ``TarOrFolderVideoLoader.flatten_frames``).

    ``num_frames`` of -1 means every frame. numpy's own ``linspace`` is called: its rounding is part of the rule.
    """
    if length <= 0:
        raise ValueError("no frame can be chosen among none")
    if splice is not None:
        return [{"first": 0, "middle": length // 2, "last": length - 1}[splice]]
    if num_frames == -1:
        return list(range(length))
    chosen = [int(i) for i in np.linspace(0, length - 1, min(length, num_frames), dtype=int)]
    return chosen + [chosen[-1]] * (num_frames - len(chosen))


def frames_on_screen(pts_ns: NDArray[np.int64], times_ns: tuple[int, ...]) -> list[int]:
    """Return the index of the frame on screen at each time: the last with ``pts <= time``, else the first."""
    shown = np.searchsorted(pts_ns, np.asarray(times_ns, dtype=np.int64), side="right") - 1
    return [int(i) for i in np.maximum(shown, 0)]


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


def _key_frame_indices(keyframes: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """Return the indices of the key frames; a clip that marks none can only be shown from its first frame on."""
    if keyframes is None:
        raise ValueError("snap: keyframe needs to know which frames are key frames")
    return np.flatnonzero(keyframes) if keyframes.any() else np.zeros(1, np.int64)


class PlannedWindows(Sequence[Window]):
    """The windows of a clip, each worked out when it is asked for, and kept while its neighbours are."""

    def __init__(
        self, cut: Cut, pts_ns: NDArray[np.int64], frames: FramePolicy, key_frames: NDArray[np.int64] | None, count: int
    ) -> None:
        self._cut, self._pts_ns, self._frames, self._key_frames, self._count = cut, pts_ns, frames, key_frames, count
        self._kept: dict[int, Window] = {}

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> Window: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Window, ...]: ...
    def __getitem__(self, at: int | slice) -> Window | tuple[Window, ...]:
        if isinstance(at, slice):
            return tuple(self[i] for i in range(*at.indices(self._count)))
        index = at + self._count if at < 0 else at
        if not 0 <= index < self._count:
            raise IndexError(f"window {at} of {self._count}")
        window = self._kept.get(index)
        if window is None:
            while len(self._kept) >= _WINDOWS_KEPT:
                del self._kept[next(iter(self._kept))]
            window = self._kept[index] = self._planned(index)
        return window

    @property
    def most_frames(self) -> int:
        """The most frames that one of them shows: the longer, the more, and the last may be the longest."""
        spans = (self._cut.span(index) for index in {0, self._count - 1})
        return max(self._frames.frames_in(end_ns - start_ns) for start_ns, end_ns in spans)

    def up_to(self, count: int) -> "PlannedWindows":
        """Return the first ``count`` windows."""
        return PlannedWindows(self._cut, self._pts_ns, self._frames, self._key_frames, min(count, self._count))

    def span(self, index: int) -> tuple[int, int]:
        """Return the span of window ``index``, which takes no look at the frames."""
        return self._cut.span(index)

    def _planned(self, index: int) -> Window:
        span = self._cut.span(index)
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
) -> PlannedWindows:
    """Return every window of a clip, with the frames shown in each.

    ``pts_ns`` is ``int64[F]``, ascending, with ``pts_ns[0] == 0``; ``keyframes`` is ``bool[F]`` and is needed for
    ``snap: keyframe`` alone, which shows the nearest key frame at or before each chosen frame. A window without a frame
    of its own (a gap) shows the frame that is on screen through it.
    """
    if len(pts_ns) == 0 or pts_ns[0] != 0 or duration_ns <= pts_ns[-1]:
        raise ValueError(f"time stamps start at 0 and end before the clip does: {pts_ns[:1]}, {duration_ns=}")
    cut = Cut.of(duration_ns, windows)
    key_frames = _key_frame_indices(keyframes) if frames.snap == "keyframe" else None
    return PlannedWindows(cut, pts_ns, frames, key_frames, cut.count)
