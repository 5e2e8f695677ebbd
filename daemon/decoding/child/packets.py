"""The demuxing pass: every packet of a clip is read once, and none is decoded where the packets say when frames show.

Where they do not (no time stamps, two frames at one time, a container that knows decoding times alone), a decoding pass
finds the order of the frames, and :mod:`daemon.decoding.timeline` their times.
"""

import os
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np

from connectors.errors import Poison, Reason
from daemon.decoding.child.codecs import is_packed, may_reorder
from daemon.decoding.child.containers import CLOCK_JUMPS, CLOCK_RESTARTS, NO_CONTAINER
from daemon.decoding.child.pyav import (
    check_true_size,
    demuxed,
    explain,
    open_video,
    sound_times,
    table_end,
)
from daemon.decoding.child.stream.decoder import decode_by_place
from daemon.decoding.child.stream.sample_table import SampleTable, has_sample_table, sample_table
from daemon.decoding.child.truncation import declared_avi_s, is_truncated
from daemon.decoding.media import MediaLimits
from daemon.decoding.packet_index import KEY, NS_PER_S, SHOWN, PacketIndex, ticks_to_ns
from daemon.decoding.timeline import NO_TIME, Mended, Stamps, fill, goes_on

_FALLBACK_RATE = Fraction(25)  # what FFmpeg assumes of images and of streams that name no rate
_PROGRESS_FRAMES = 2000  # a pass says that it is alive so often
_REREAD = ("mov", "matroska")  # formats that can go back to their first packet
_KEPT_PACKETS = 200_000  # two hours: the demuxer's own table of more takes memory that the index needs
_LONGEST_TICKS = 2**31 - 1
_PRIMING_S = 0.2  # sound may begin so much before the container's zero, and players leave it out
_STILL_S = 1.0  # frames at least so far apart are pictures, and the last one stays as long as the sound


@dataclass(frozen=True, slots=True)
class Packets:
    """The result of a demuxing pass. ``failure`` says why it ended early; ``declared_s`` is the header's word.

    ``start_ns`` is where the container's clock starts, on the clock of the index; ``mended`` is what was done to times.
    """

    index: PacketIndex
    codec: str
    container: str
    width: int
    height: int
    sample_aspect: Fraction | None
    declared_s: float
    truncated: bool
    failure: str
    start_ns: int = 0
    mended: Mended = field(default_factory=Mended)


class PacketReader:
    """Reads every packet of the video stream once and decodes none, unless the packets carry no distinct times."""

    def __init__(self, descriptor: int, limits: MediaLimits, alive: Callable[[], None]) -> None:
        self._descriptor, self._limits, self._alive = descriptor, limits, alive
        self._pts, self._dts, self._flags = array("q"), array("q"), array("B")
        self._durations, self._newest = array("i"), NO_TIME
        self._clock_jumps = self._has_sound = False
        self._reordered = False  # frames in another order than the packets, in a container that does not say so
        self._packed = False  # packets hold a frame and the one before, which is shown when the next packet comes
        self._failure = ""
        self.opened: tuple[Any, Any] | None = None  # the container and its stream, where they can be read once more

    def read(self, *, counted: bool = False) -> Packets:
        """Return the index; raises :class:`Poison` for what has no frames or is over a limit.

        ``counted`` asks for a decoding pass even where packets carry times: the decoder gives others.
        """
        container, stream = open_video(self._descriptor, self._limits)
        try:
            width, height = stream.codec_context.width, stream.codec_context.height
            self._limits.check_size(width, height)
            if not width or not height:
                check_true_size(self._descriptor, self._limits)
            codec, name = stream.codec.canonical_name, container.format.name
            declared = float(stream.duration * stream.time_base) if stream.duration else 0.0
            if not (declared and name.startswith("mov")):  # there the sound may be longer than the picture
                declared = max(declared, (container.duration or 0) / 1e6)
            time_base = Fraction(stream.time_base)
            stated = stream.guessed_rate if name in NO_CONTAINER else stream.average_rate  # there the demuxer says 25
            rate = Fraction(stated or stream.guessed_rate or _FALLBACK_RATE)
            promised = stream.frames  # where the container lists them
            aspect = stream.sample_aspect_ratio or None
            start_s = container.start_time / 1e6 if container.start_time is not None else None
            self._clock_jumps = name in CLOCK_JUMPS
            self._has_sound = bool(container.streams.audio)
            end_bytes = table_end(stream) if name.startswith("mov") else 0
            table: SampleTable | None = None
            if not counted and has_sample_table(self._descriptor, container, stream, end_bytes):
                table = sample_table(self._descriptor, container, stream)
                if table is None:
                    container.close()
                    container, stream = open_video(self._descriptor, self._limits)
            if table is None:
                self._demux(container, stream)
                end_bytes = table_end(stream) if name.startswith("mov") else 0
            else:
                self._take(table)
            if name.startswith(_REREAD) and len(self._pts) <= _KEPT_PACKETS and not self._failure:
                self.opened = container, stream
        finally:
            if self.opened is None:
                container.close()
        if promised and not self._pts:
            raise Poison(Reason.TRUNCATED, f"truncated before the first of {promised:,} frames")
        index, mended = self._index(name, time_base, rate, counted)
        index, mended = self._held_by_sound(index, mended)
        self._limits.check_length(len(index), index.duration_ns / NS_PER_S)
        truncated = is_truncated(self._descriptor, os.fstat(self._descriptor).st_size, end_bytes)
        declared = declared_avi_s(self._descriptor) or declared
        start_ns = _start_ns(start_s, index, has_decoding_times_alone=name == "avi")
        return Packets(
            *(index, codec, name, width, height, aspect, declared, truncated, self._failure), start_ns, mended
        )

    def _take(self, table: SampleTable) -> None:
        """Take the packets as if they had been read."""
        for name, column in (("pts", self._pts), ("dts", self._dts), ("durations", self._durations)):
            column.frombytes(getattr(table, name).astype(column.typecode).tobytes())
        self._flags.frombytes(table.flags.tobytes())

    def close(self) -> None:
        """Close the container, where it is still open."""
        if self.opened is not None:
            self.opened[0].close()

    def _demux(self, container: Any, stream: Any) -> None:
        codec = stream.codec_context.name
        has_order_unsaid = container.format.name == "avi"
        half = False
        try:
            for packet in demuxed(container, stream):
                shown = not packet.is_discard
                if codec == "vp8" and not memoryview(packet)[0] & 0x10:  # VP8's show_frame bit
                    shown = False
                if has_order_unsaid and not self._reordered:
                    self._reordered = may_reorder(codec, memoryview(packet))
                self._packed = self._packed or is_packed(codec, memoryview(packet))
                self._add(packet.pts, packet.dts, packet.duration, bool(packet.is_keyframe), shown)
                if len(self._pts) % _PROGRESS_FRAMES == 0:
                    self._check_so_far(stream)
                half = bool(packet.is_corrupt)
            if half:  # of the last packet, at the end of a truncated file
                for column in (self._pts, self._dts, self._flags, self._durations):
                    column.pop()
        except Poison:
            raise
        except Exception as error:
            self._failure = explain(error)

    def _add(self, pts: int | None, dts: int | None, duration: int | None, key: bool, shown: bool) -> None:
        if pts is not None and shown:
            self._newest = max(self._newest, pts)
        self._pts.append(NO_TIME if pts is None else pts)
        self._dts.append(NO_TIME if dts is None else dts)
        self._flags.append(KEY * key | SHOWN * shown)
        self._durations.append(min(max(duration or 0, 0), _LONGEST_TICKS))

    def _check_so_far(self, stream: Any) -> None:
        """Say that the pass is alive; a clock that does not jump says already how long the clip is."""
        self._alive()
        first = min((pts for pts in self._pts[:_PROGRESS_FRAMES] if pts != NO_TIME), default=self._newest)
        length = 0 if self._clock_jumps else self._newest - first
        self._limits.check_length(len(self._pts), float(length * stream.time_base))

    def _index(self, name: str, time_base: Fraction, rate: Fraction, counted: bool) -> tuple[PacketIndex, Mended]:
        flags = np.array(self._flags, np.uint8)
        is_shown = (flags & SHOWN).astype(bool)
        if not is_shown.any():
            raise Poison(Reason.NO_FRAMES, "a video stream without one frame")
        durations = np.array(self._durations, np.int64)
        usual = int(np.median(durations[durations > 0])) if (durations > 0).any() else 0
        raw = Stamps(
            np.array(self._pts, np.int64),
            np.array(self._dts, np.int64),
            (flags & KEY).astype(bool),
            is_shown,
            usual or max(1, round(1 / (rate * time_base))),
            float(1 / time_base),
        )
        stamps, mended = self._without_jumps(raw, name)
        shown_pts = stamps.pts[is_shown]
        timeless = name in NO_CONTAINER or bool((shown_pts == NO_TIME).any())
        by_decoder = counted or self._reordered or self._packed or timeless or bool(mended) or not stamps.are_ordered
        if by_decoder or len(np.unique(shown_pts)) < len(shown_pts):
            if name in NO_CONTAINER:  # FFmpeg makes times up, and they are wrong where frames are reordered
                nothing = np.full(len(flags), NO_TIME, np.int64)
                stamps = replace(stamps, pts=nothing, dts=nothing)
            return self._decoded(stamps, mended, time_base, rate)
        newest = int(np.argmax(np.where(is_shown, stamps.pts, NO_TIME)))
        ticks = int(durations[newest])
        shown = np.sort(shown_pts)
        self._limits.check_length(len(shown), (int(shown[-1]) - int(shown[0])) * float(time_base))
        if ticks <= 0:
            ticks = int(np.median(np.diff(shown))) if len(shown) > 1 else round(1 / (rate * time_base))
        return PacketIndex(time_base, stamps.pts, stamps.dts, flags, max(ticks, 1), counted=bool(mended)), mended

    def _without_jumps(self, raw: Stamps, name: str) -> tuple[Stamps, Mended]:
        """Return the stamps with the clock's jumps closed, where the container's clock may jump at all."""
        if name in CLOCK_RESTARTS:
            places, steps = raw.restarts()
            return (raw.closed(places, steps) if len(places) else raw), Mended(jumps_back=len(places))
        if name not in CLOCK_JUMPS:
            return raw, Mended()
        stamps = raw.without_strays()
        places, steps = stamps.jumps()
        if (steps > 0).any():
            closed = steps < 0
            sound = sound_times(self._descriptor, self._limits)
            for at in np.flatnonzero(steps > 0):
                end_s = int(stamps.dts[places[at]]) / stamps.ticks_per_s
                closed[at] = not goes_on(sound, end_s - int(steps[at]) / stamps.ticks_per_s, end_s)
            places, steps = places[closed], steps[closed]
        mended = Mended(jumps_back=int((steps < 0).sum()), jumps_ahead=int((steps > 0).sum()))
        return (stamps.closed(places, steps) if len(places) else stamps), mended

    def _decoded(
        self, stamps: Stamps, mended: Mended, time_base: Fraction, rate: Fraction
    ) -> tuple[PacketIndex, Mended]:
        """Return the index whose frames stand in the order in which the decoder gives them."""
        places, keys, ticks = self._decode()
        if not places:
            raise Poison(Reason.NO_FRAMES, "not one frame of it can be decoded")
        order = np.array(places, np.int64)
        flags = np.zeros(len(stamps.pts), np.uint8)
        flags[order] = np.array(keys, np.uint8) | SHOWN
        times, slots = stamps.pts[order], stamps.with_all_slots().dts[order]
        if self._reordered:
            times = np.full(len(order), NO_TIME, np.int64)
        if (times == NO_TIME).all() and (slots == NO_TIME).any():
            time_base, ticks, filled = 1 / rate, 1, np.arange(len(order), dtype=np.int64)
            mended = replace(mended, by_rate=True)
        else:
            filled, count = fill(times, slots, stamps.frame_ticks)
            mended = replace(mended, filled=0 if self._reordered else count, reordered=self._reordered)
        self._limits.check_length(len(order), (int(filled[-1]) - int(filled[0])) * float(time_base))
        pts = np.full(len(flags), NO_TIME, np.int64)
        pts[order] = filled
        if ticks <= 0:
            ticks = int(np.median(np.diff(filled))) if len(filled) > 1 else round(1 / (rate * time_base))
        return PacketIndex(time_base, pts, stamps.dts, flags, max(ticks, 1), counted=True), mended

    def _decode(self) -> tuple[list[int], list[int], int]:
        """Decode everything and return the decode index, the key flag and the last duration of the frames, in order.

        Each packet is stamped with its decode index, which its frame brings back.
        """
        places, keys, ticks, count = list[int](), list[int](), 0, len(self._pts)
        seen = bytearray(count)
        container, stream = open_video(self._descriptor, self._limits)
        with container:
            for frame in decode_by_place(container, stream, self._limits):
                if frame.pts is None or not 0 <= frame.pts < count or seen[frame.pts]:
                    continue
                if not self._flags[frame.pts] & SHOWN:  # before an edit list's start; not every decoder leaves it out
                    continue
                seen[frame.pts] = 1
                places.append(frame.pts)
                keys.append(KEY * bool(frame.key_frame))
                ticks = frame.duration or 0
                if len(places) % _PROGRESS_FRAMES == 0:
                    self._alive()
        return places, keys, ticks

    def _held_by_sound(self, index: PacketIndex, mended: Mended) -> tuple[PacketIndex, Mended]:
        """Keep the last of some pictures on screen as long as the sound, as players do."""
        if not self._has_sound or self._clock_jumps or mended.by_rate:
            return index, mended
        if len(index) > 1 and np.median(np.diff(index.pts_ns)) < _STILL_S * NS_PER_S:
            return index, mended
        sound = sound_times(self._descriptor, self._limits)
        end = int(sound.max() / index.time_base) if len(sound) else 0
        more = end - int(index.sorted_pts[-1]) - index.last_ticks
        if more <= 0:
            return index, mended
        return replace(index, last_ticks=index.last_ticks + more), replace(mended, held=True)


def _start_ns(start_s: float | None, index: PacketIndex, *, has_decoding_times_alone: bool) -> int:
    """Return where the container's clock starts. A stream without a clock starts with its first frame."""
    first_ns = int(ticks_to_ns(index.sorted_pts[:1], index.time_base)[0])
    if start_s is None:
        return first_ns
    start_ns = 0 if -_PRIMING_S < start_s < 0 else round(start_s * NS_PER_S)
    known = index.dts[index.dts != NO_TIME]
    if has_decoding_times_alone and len(known):  # what is shown first is shown when it is decoded first
        start_ns += first_ns - int(ticks_to_ns(known.min(keepdims=True), index.time_base)[0])
    return start_ns
