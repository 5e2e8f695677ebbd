"""The plan of a clip: its windows, and all that the sampler knows before the first of them is decoded."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from connectors.errors import EmptySpan, Poison, Reason, Transient
from daemon.decoding.fields import Data
from daemon.decoding.index_block import TIMES_BYTES, ClipTimes, times_of
from daemon.decoding.media import MediaLimits
from daemon.decoding.open_media import OpenMedia
from daemon.decoding.pool import Session
from daemon.decoding.process import Expected, accept
from daemon.decoding.protocol import (
    ANSWERS,
    MAX_SMALL_INDEX_BYTES,
    PREFIX,
    Decoded,
    Index,
    Planned,
    Poisoned,
    reading,
    unpack_prefix,
)
from daemon.decoding.timeline import Mended
from daemon.frame_look import FrameSize, Look
from daemon.windows import NS_PER_S, FramePolicy, PlannedWindows, Window, WindowPolicy, plan_windows

_MANY_WINDOWS = 1000  # 2.8 hours of windows of 10 s: below that, a slide show may be as slow as it likes
_WINDOWS_A_FRAME = 20  # above that, a picture that stands still for so many windows on average is no video


def index_need(planned: Planned, limit_bytes: int) -> int:
    """Return the bytes that a clip's index takes; :class:`Poison` when it could never have so many."""
    need = planned.index_bytes + TIMES_BYTES * planned.packets
    if need > limit_bytes:
        raise Poison(
            Reason.OVER_BUDGET,
            f"the index of {planned.packets:,} frames needs {need:,} bytes, and {limit_bytes:,} "
            "of limits.in_flight_bytes are there for indices: raise it",
        )
    return need


def read_index(planned: Planned, block: Data, limits: MediaLimits, *, keyframes: bool) -> ClipTimes:
    """Return a clip's times, every limit checked again; :class:`Transient` when the child's answer makes no sense."""
    try:
        limits.check_size(planned.width, planned.height)
        if len(block) != planned.index_bytes:
            raise ValueError(f"an index of {len(block)} bytes instead of {planned.index_bytes}")
        times = times_of(block, planned.packets, keyframes=keyframes)
        limits.check_length(len(times), times.duration_ns / NS_PER_S)
    except (ValueError, Poison) as error:  # a child that means well has checked the limits itself
        raise no_sense(error) from error
    return times


def read_shown(decoded: Decoded, window: Window, frames: int) -> tuple[int, ...]:
    """Return the indices of the frames that a window shows; :class:`Transient` when they make no sense."""
    if len(decoded.shown) != len(window.frame_indices) or max(decoded.shown) >= frames:
        raise no_sense(f"{len(decoded.shown)} frames up to {max(decoded.shown, default=-1)}")
    return decoded.shown


def no_sense(why: object) -> Transient:
    """Return what is raised when a decoder's answer can't be one."""
    return Transient(f"the decoder's answer makes no sense: {why}", reason=Reason.DECODER_DIED)


class PlanRules(NamedTuple):
    """The rules that a clip is planned by."""

    windows: WindowPolicy
    frames: FramePolicy
    span_ns: tuple[int, int] | None


@dataclass(slots=True, eq=False)
class ClipPlan:
    """A clip's windows, and everything needed to decode them. :meth:`close` it when the clip is done.

    ``width`` and ``height`` are those of its frames, upright and with square pixels; ``sized`` says to what size those
    of a window of so many frames are scaled. ``pts_ns`` is ``int64[F]`` from 0.
    ``media_start_ns`` is when the first frame is shown on the container's clock, and ``mended`` what was done to times.
    ``fault`` is what :meth:`Sampler.frame_sets` raises after the last window, where the clip ends before its time.
    """

    duration_ns: int
    windows: PlannedWindows = field(repr=False)
    width: int
    height: int
    codec: str
    container: str
    pts_ns: NDArray[np.int64] = field(repr=False)
    media_start_ns: int
    mended: Mended
    fault: Poison | None
    limits: MediaLimits = field(repr=False)
    media: OpenMedia = field(repr=False)
    session: Session = field(repr=False)
    on_close: Callable[[Session], None] = field(repr=False)
    shows_own: bool = False  # a window shows no frame from before it, even for one that can't be decoded
    look: Look = field(default=Look(), repr=False)
    sized: Callable[[int, FrameSize], FrameSize] | None = field(default=None, repr=False)
    sizes: dict[int, FrameSize] = field(default_factory=dict, repr=False)  # by frames of a window; clips alike share it
    shots_looked: int = field(default=0, repr=False)  # frames that were looked through for windows that follow shots

    def asked(self, is_open: bool) -> dict[str, Any]:
        """Return the fields of any request about the clip; a child that does not have it open opens it with them."""
        return {
            "session": self.session.number,
            "decoder": self.session.sender.decoder,
            "opens": not is_open,
            "width": self.width,
            "height": self.height,
            **reading(self.limits, self.look),
        }

    @property
    def own_size(self) -> FrameSize:
        """The size of the clip's frames as they are."""
        return FrameSize(self.width, self.height)

    def size_of(self, window: Window) -> FrameSize:
        """Return the size of a window's frames as the model gets them: windows of different lengths may differ."""
        count = len(window.frame_indices)
        if count not in self.sizes:
            self.sizes[count] = self.own_size if self.sized is None else self.sized(count, self.own_size)
        return self.sizes[count]

    def size_windows(self, first: int = 0) -> None:
        """Work out the sizes of all windows, of which the last alone may be longer or shorter than the others.

        Those that follow shots are of any length, and are there from ``first`` on since the last time.

        Raises:
            Poison: a window's frames can't be made small enough for what they may cost.
        """
        for window in self._unlike(first):
            self.size_of(window)

    @property
    def is_sized(self) -> bool:
        """Whether the sizes of all windows are known, of this clip or of one before it."""
        return all(len(window.frame_indices) in self.sizes for window in self._unlike())

    def _unlike(self, first: int = 0) -> list[Window]:
        last = len(self.windows) - 1
        those = {0, last} - {-1} if self.windows.shots is None else range(first, last + 1)
        return [self.windows[at] for at in those]

    @property
    def largest_frame_bytes(self) -> int:
        """Bytes of the largest frame of any window, and of any of a clip that shares its sizes."""
        return max((size.frame_bytes for size in self.sizes.values()), default=self.own_size.frame_bytes)

    def window_bytes(self, window: Window) -> int:
        """Bytes of a window's frames."""
        return len(window.frame_indices) * self.size_of(window).frame_bytes

    def overlapping(self, first: int, last: int) -> list[Window]:
        """Return the windows after ``first``, up to ``last``, that show frames from before its end."""
        newest = max(self.windows[first].frame_indices)
        return [w for w in self.windows[first + 1 : last + 1] if min(w.frame_indices) <= newest]

    def close(self) -> None:
        """Close the clip's descriptor and let its decoder go. May be called again."""
        if self.media.descriptor >= 0:
            self.on_close(self.session)
            self.media.close()


def readable_windows(
    times: ClipTimes,
    windows: WindowPolicy,
    frames: FramePolicy,
    fault: Poison | None,
    span_ns: tuple[int, int] | None = None,
) -> PlannedWindows:
    """Return a clip's windows; of one that ends before its time, the whole ones, which more bytes would not change."""
    if span_ns is not None:
        if not ((times.pts_ns >= span_ns[0]) & (times.pts_ns < span_ns[1])).any():
            raise fault or EmptySpan
        return plan_windows(times.pts_ns, times.duration_ns, windows, frames, times.keyframes, span_ns)
    if windows.shots is not None:
        _check_worth(times, windows)
        planned = plan_windows(times.pts_ns, times.duration_ns, windows, frames, times.keyframes)
        if planned.shots is not None:
            planned.shots.ends_early = fault is not None
        return planned
    if fault is None:
        _check_worth(times, windows)
        return plan_windows(times.pts_ns, times.duration_ns, windows, frames, times.keyframes)
    if windows.whole or times.duration_ns < windows.window_ns:
        raise fault
    unmerged = replace(windows, min_tail_ns=0)
    planned = plan_windows(times.pts_ns, times.duration_ns, unmerged, frames, times.keyframes)
    start_ns, exclusive_end_ns = planned.span(len(planned) - 1)
    return planned if exclusive_end_ns - start_ns == windows.window_ns else planned.up_to(len(planned) - 1)


def _check_worth(times: ClipTimes, windows: WindowPolicy) -> None:
    """Refuse a clip that a few frames, one of them at a damaged time, stretch over hours of the same picture."""
    count = 1 if windows.whole else -(-times.duration_ns // windows.stride_ns)
    if count > _MANY_WINDOWS and count > _WINDOWS_A_FRAME * len(times):
        hours = times.duration_ns / NS_PER_S / 3600
        raise Poison(Reason.OVER_BUDGET, f"{count:,} windows for {len(times):,} frames, spread over {hours:.1f} hours")


def early_end(times: ClipTimes, truncated: bool, failure: str, declared_s: float) -> Poison | None:
    """Return the rejection that follows the last whole window of a clip that ends before its time, else None.

    The container's own structure has the say; a header's duration is believed only as far as it denies a truncation.
    """
    end_s = times.duration_ns / NS_PER_S
    frame_s = end_s / len(times)
    if truncated and (declared_s <= 0 or end_s < declared_s - frame_s):
        declared = f" of {declared_s:.2f} s" if declared_s > 0 else ""
        return Poison(Reason.TRUNCATED, f"truncated at {end_s:.2f} s{declared}")
    if failure:
        return Poison(Reason.CORRUPT, f"nothing can be read after {end_s:.2f} s: {failure}")
    return None


def windows_from_answers(
    data: bytes, limits: MediaLimits, windows: WindowPolicy, frames: FramePolicy, index_bytes: int = 2**24
) -> list[tuple[Window, tuple[int, ...]]]:
    """Do with the bytes of a child all that is done with them, without a child: for tests that make bytes up.

    They are the answer to a plan request, and then one for each window; an index may take ``index_bytes``. Returns the
    windows whose answers are whole, with the frames that they show. Whatever the bytes are, :class:`Transient` and
    :class:`Poison` alone are raised.
    """
    planned, block, rest = _next_answer(data, Planned, MAX_SMALL_INDEX_BYTES)
    index_need(planned, index_bytes)
    if not block:
        _, block, rest = _next_answer(rest, Index, planned.index_bytes)
    times = read_index(planned, block, limits, keyframes=frames.snap == "keyframe")
    fault = early_end(times, planned.truncated, planned.failure, planned.declared_s)
    done = []
    for window in readable_windows(times, windows, frames, fault):
        if not rest:
            break
        decoded, _, rest = _next_answer(rest, Decoded, 0)
        done.append((window, read_shown(decoded, window, len(times))))
    return done


def _next_answer(data: bytes, expected: type[Expected], room_bytes: int) -> tuple[Expected, bytes, bytes]:
    """Return the next answer that is due, its block, and the bytes after it."""
    try:
        answer = None
        while answer is None:
            announced = unpack_prefix(data[: PREFIX.size], ANSWERS)
            at = PREFIX.size + announced.header_bytes
            end = at + announced.block_bytes
            if len(data) < end:
                raise EOFError
            answer = accept(announced, data[PREFIX.size : at], expected, room_bytes)
            block, data = data[at:end], data[end:]
    except (ValueError, EOFError) as error:
        raise no_sense(error) from error
    if isinstance(answer, Poisoned):
        raise Poison(answer.reason, answer.detail)
    return answer, block, data
