"""The demuxing pass: every packet of a clip is read once and none is decoded, unless they carry no distinct times."""

import os
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.errors import Poison, Reason
from daemon.decoding.child.pyav import decode_all, explain, open_container, video_stream
from daemon.decoding.child.truncation import declared_avi_s, is_truncated
from daemon.decoding.media import MediaLimits
from daemon.decoding.packet_index import KEY, SHOWN, PacketIndex

_NO_TIME = -(2**63)
_FALLBACK_RATE = Fraction(25)  # what FFmpeg assumes of images and of streams that name no rate
_PROGRESS_FRAMES = 2000  # a pass says that it is alive so often


@dataclass(frozen=True, slots=True)
class Packets:
    """The result of a demuxing pass. ``failure`` says why it ended early; ``declared_s`` is the header's word."""

    index: PacketIndex
    codec: str
    container: str
    width: int
    height: int
    sample_aspect: Fraction | None
    declared_s: float
    truncated: bool
    failure: str


class PacketReader:
    """Reads every packet of the video stream once and decodes none, unless the packets carry no distinct times."""

    def __init__(self, descriptor: int, limits: MediaLimits, alive: Callable[[], None]) -> None:
        self._descriptor, self._limits, self._alive = descriptor, limits, alive
        self._pts, self._dts, self._flags = array("q"), array("q"), array("B")
        self._last_pts, self._last_duration = _NO_TIME, 0
        self._timeless = False
        self._failure = ""

    def read(self, *, counted: bool = False) -> Packets:
        """Return the index; raises :class:`Poison` for what has no frames or is over a limit.

        ``counted`` asks for a decoding pass even where packets carry times: the decoder gives others.
        """
        container = open_container(self._descriptor, self._limits)
        try:
            stream = video_stream(container)
            width, height = stream.codec_context.width, stream.codec_context.height
            self._limits.check_size(width, height)
            if not width or not height:
                self._check_true_size()
            declared = max(
                float(stream.duration * stream.time_base) if stream.duration else 0.0, (container.duration or 0) / 1e6
            )
            time_base = Fraction(stream.time_base)
            rate = Fraction(stream.average_rate or stream.guessed_rate or _FALLBACK_RATE)
            names = (stream.codec.canonical_name, container.format.name)
            promised = stream.frames  # where the container lists them
            aspect = stream.sample_aspect_ratio or None
            self._demux(container, stream)
            if promised and not self._pts:
                raise Poison(Reason.TRUNCATED, f"truncated before the first of {promised:,} frames")
            if counted or self._timeless or _has_twins(self._pts, self._flags):
                container.close()
                self._decode()
            index = self._index(time_base, rate)
            self._limits.check_length(len(index), index.duration_ns / 1e9)
            truncated = is_truncated(self._descriptor, os.fstat(self._descriptor).st_size)
            declared = declared_avi_s(self._descriptor) or declared
            return Packets(index, *names, width, height, aspect, declared, truncated, self._failure)
        finally:
            container.close()

    def _check_true_size(self) -> None:
        """Ask again without a limit and without decoding: FFmpeg forgets a size that is over its limit.

        Its PNG decoder knows no such mode; there the header says it.
        """
        head = os.pread(self._descriptor, 24, 0)
        if head[:4] == b"\x89PNG":
            self._limits.check_size(int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big"))
            return
        options = {"max_pixels": str(2**31 - 1), "skip_frame": "all"}
        with open_container(self._descriptor, self._limits, **options) as container:
            context = video_stream(container).codec_context
            self._limits.check_size(context.width, context.height)

    def _demux(self, container: Any, stream: Any) -> None:
        hidden_by_first_byte = stream.codec_context.name == "vp8"
        half = False
        try:
            for packet in container.demux(stream):
                if packet.size == 0:  # the end of the stream
                    continue
                shown = not packet.is_discard
                if hidden_by_first_byte and not memoryview(packet)[0] & 0x10:  # VP8's show_frame bit
                    shown = False
                self._add(packet.pts, packet.dts, packet.duration, bool(packet.is_keyframe), shown)
                if len(self._pts) % _PROGRESS_FRAMES == 0:
                    self._check_so_far(stream)
                half = bool(packet.is_corrupt)
                if container.format.name == "jpeg_pipe":  # the picture; what is behind it is none of it
                    break
            if half:  # of the last packet, at the end of a truncated file
                for column in (self._pts, self._dts, self._flags):
                    column.pop()
        except Poison:
            raise
        except Exception as error:
            self._failure = explain(error)

    def _add(self, pts: int | None, dts: int | None, duration: int | None, key: bool, shown: bool) -> None:
        if pts is None:
            self._timeless |= shown
            pts = _NO_TIME
        elif shown and pts >= self._last_pts:
            self._last_pts, self._last_duration = pts, duration or 0
        self._pts.append(pts)
        self._dts.append(_NO_TIME if dts is None else dts)
        self._flags.append(KEY * key | SHOWN * shown)

    def _check_so_far(self, stream: Any) -> None:
        self._alive()
        length = (self._last_pts - min(self._pts[:_PROGRESS_FRAMES])) if not self._timeless else 0
        self._limits.check_length(len(self._pts), float(length * stream.time_base))

    def _decode(self) -> None:
        """Make the index from decoded frames, in the order in which they come out, which both indices then count."""
        self._timeless = True
        self._pts, self._dts, self._flags = array("q"), array("q"), array("B")
        with open_container(self._descriptor, self._limits) as container:
            stream = video_stream(container)
            for frame in decode_all(container, stream, self._limits):
                self._pts.append(_NO_TIME if frame.pts is None else frame.pts)
                self._dts.append(_NO_TIME if frame.dts is None else frame.dts)
                self._flags.append(KEY * bool(frame.key_frame) | SHOWN)
                self._last_duration = frame.duration or 0
                if len(self._pts) % _PROGRESS_FRAMES == 0:
                    self._check_so_far(stream)

    def _index(self, time_base: Fraction, rate: Fraction) -> PacketIndex:
        pts, dts = np.array(self._pts, np.int64), np.array(self._dts, np.int64)
        flags = np.array(self._flags, np.uint8)
        ticks = self._last_duration
        if not (flags & SHOWN).any():
            raise Poison(Reason.NO_FRAMES, "a video stream without one frame")
        if self._timeless:
            rising = _rising(dts, pts)
            if rising is None:
                time_base, rising, ticks = 1 / rate, np.arange(len(flags), dtype=np.int64), 1
            pts = rising
        shown = np.sort(pts[(flags & SHOWN).astype(bool)])
        self._limits.check_length(len(shown), (int(shown[-1]) - int(shown[0])) * float(time_base))
        if ticks <= 0:
            ticks = int(np.median(np.diff(shown))) if len(shown) > 1 else round(1 / (rate * time_base))
        return PacketIndex(time_base, pts, dts, flags, max(ticks, 1), counted=self._timeless)


def _has_twins(pts: "array[int]", flags: "array[int]") -> bool:
    shown = np.array(pts, np.int64)[(np.array(flags, np.uint8) & SHOWN).astype(bool)]
    return len(np.unique(shown)) != len(shown)


def _rising(*candidates: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return the first of the columns that has a time for every frame, each later than the one before."""
    for column in candidates:
        if len(column) and column[0] != _NO_TIME and (np.diff(column) > 0).all():
            return column
    return None
