"""FFmpeg's demuxers and its MP4 muxer, through PyAV, which no other file of the connectors imports.

No decoder is opened: none has the name that is allowed.

PyAV's errors name the URL, so none leaves this file: what happened becomes :class:`Away` with a code.
"""

import errno
import importlib
import io
import pkgutil
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from typing import Any, NamedTuple

import av
import av.error
import av.logging

from connectors.stream.addresses import options_for, scheme_of
from connectors.stream.child.packet import Away, StreamFormat, StreamPacket
from connectors.stream.child.parameter_sets import LengthPrefixed, parameter_sets, with_sets
from connectors.stream.child.picture import codec_of, size_in
from connectors.stream.child.playlist import HlsClock, HttpRefusal, PlaylistFetcher, without_login

CODECS = frozenset({"h264", "hevc", "av1", "libdav1d", "vp9", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg"})
"""Codecs that MP4 holds and the decoding child opens."""
TICK_NS = 1_000  # of the segments' clock
_OPEN_S = 10.0
_TICKS = Fraction(TICK_NS, 10**9)
_MOVFLAGS = "empty_moov+default_base_moof+frag_custom+frag_discont+skip_trailer+negative_cts_offsets"
_REASONS: tuple[tuple[type[BaseException] | str, str], ...] = (
    ("HTTPUnauthorizedError", "unauthorized"),
    ("HTTPForbiddenError", "unauthorized"),
    ("HTTPNotFoundError", "not_found"),
    ("FileNotFoundError", "not_found"),
    ("ConnectionRefusedError", "refused"),
    ("ConnectionResetError", "reset"),
    ("BrokenPipeError", "reset"),
    ("TimeoutError", "timeout"),
    ("SSLCertVerificationError", "untrusted"),
    ("ExitError", "timeout"),
    ("EOFError", "ended"),
    ("InvalidDataError", "unreadable"),
    ("ProtocolNotFoundError", "unsupported"),
    ("DemuxerNotFoundError", "unsupported"),
)


def prepare() -> None:
    """Import all of PyAV, which can't be loaded behind the cage, and let FFmpeg write no line: lines hold URLs."""
    for found in pkgutil.walk_packages(av.__path__, "av."):
        with suppress(ImportError):  # some of them need packages that are not there
            importlib.import_module(found.name)
    importlib.import_module("encodings.idna")
    av.logging.set_level(None)


class Connection:
    """A stream that was opened. Only its first video is read."""

    def __init__(self, url: str, transport: str, silence_s: float, authorities: str | None) -> None:
        options, open_s, began = options_for(url, transport, authorities), max(silence_s, _OPEN_S), time.monotonic()
        self._silence_s = silence_s
        fetcher = PlaylistFetcher(url, silence_s, authorities) if scheme_of(url).demuxer == "hls" else None
        self._dates = None if fetcher is None else HlsClock(fetcher)
        try:
            self._container = av.open(
                url if fetcher is None else without_login(url), "r",
                format=scheme_of(url).demuxer, options=options, timeout=(open_s, silence_s),
                io_open=None if fetcher is None else fetcher.open,
            )  # fmt: skip
        except Exception as error:  # FFmpeg says many things where it was interrupted
            reason = "timeout" if time.monotonic() - began >= open_s else reason_of(error)
            # how FFmpeg says that TLS failed: whoever does not listen or answer has words of its own
            is_tls = reason == "failed" and "tls_verify" in options and getattr(error, "errno", None) == errno.EIO
            raise Away("untrusted" if is_tls else reason) from None
        videos = self._container.streams.video
        if not videos:
            self.close()
            raise Away("no_video")
        self._stream = videos[0]
        self._sender = SenderClock()
        context = self._stream.codec_context
        if context.name not in CODECS:
            self.close()
            raise Away("unsupported_codec")
        self._units = LengthPrefixed.of(context.name, bytes(context.extradata or b""))
        self._format = StreamFormat(
            *(context.name, context.width, context.height),
            self._units.parameter_sets if self._units is not None else bytes(context.extradata or b""),
        )

    def packets(self) -> Iterator[StreamPacket]:
        """Yield the video's packets as they come; :class:`Away` ends it."""
        heard = time.monotonic()
        try:
            for packet in self._container.demux():
                if packet.stream_index == self._stream.index and packet.size:
                    heard = time.monotonic()
                    yield self._taken(packet)
                elif time.monotonic() - heard > self._silence_s:
                    raise Away("silent")
        except Away:
            raise
        except Exception as error:
            reason = reason_of(error)
            raise Away("silent" if reason == "timeout" else reason) from None
        raise Away("ended", says_so=True)

    def close(self) -> None:
        with suppress(Exception):
            self._container.close()

    def _taken(self, packet: Any) -> StreamPacket:
        base = packet.time_base
        if packet.has_sidedata("new_extradata"):
            self._units = LengthPrefixed.of(self._format.codec, bytes(packet.get_sidedata("new_extradata")))
        data = bytes(packet) if self._units is None else self._units.start_coded(bytes(packet))
        self._renew_format(packet, data)
        time_stamp = packet.pts if packet.pts is not None else packet.dts
        media_ns = None if time_stamp is None else int(time_stamp * base * 10**9)
        if packet.has_sidedata("rtcp_sr"):
            self._sender.report(bytes(packet.get_sidedata("rtcp_sr")), self._container.start_time_realtime, base)
        if self._dates is not None:
            self._dates.take(packet.pos, media_ns)
        offset_ns = self._sender.offset_ns if self._dates is None else self._dates.offset_ns
        return StreamPacket(data, media_ns, bool(packet.is_keyframe), time.time_ns(), self._format, offset_ns)

    def _renew_format(self, packet: Any, data: bytes) -> None:
        """Take note of what a packet says of the pictures from here on."""
        if not packet.is_keyframe:
            return
        if (codec := codec_of(self._format.codec, data)) != self._format.codec:
            self._format, self._units = replace(self._format, codec=codec, extradata=b"", width=0, height=0), None
        said = parameter_sets(codec, data) or (self._units.parameter_sets if self._units else b"")
        if said and said != self._format.extradata:
            self._format = resized(replace(self._format, extradata=said), said + data)
        elif (size := size_in(codec, data)) is not None:
            self._format = replace(self._format, width=size[0], height=size[1])
        elif not self._format.width:
            self._format = resized(self._format, data)


class SenderClock:
    """The sender's wall clock, from RTCP's reports: each pairs a time of it with a time stamp of the stream."""

    def __init__(self) -> None:
        self.offset_ns: int | None = None
        self._first: tuple[int, int] | None = None
        self._first_offset_ns = 0

    def report(self, data: bytes, start_time_realtime: int | None, base: Fraction) -> None:
        """Take a report. The first is FFmpeg's own, which knows the first time stamp; later ones are held to it."""
        ntp, stamp = struct.unpack_from("=8xQI", data)
        wall_ns = ntp * 10**9 >> 32
        if self._first is None:
            if start_time_realtime is None:
                return
            self._first, self._first_offset_ns = (wall_ns, stamp), start_time_realtime * 1_000
            self.offset_ns = self._first_offset_ns
            return
        passed = (stamp - self._first[1]) % 2**32
        passed -= 2**32 if passed >= 2**31 else 0
        self.offset_ns = self._first_offset_ns + wall_ns - self._first[0] - int(passed * base * 10**9)
        self._first, self._first_offset_ns = (wall_ns, stamp), self.offset_ns


def reason_of(error: BaseException) -> str:
    """Return a code for what FFmpeg or the system says; never a text of theirs."""
    if isinstance(error, HttpRefusal):
        return error.reason
    names = {kind.__name__ for kind in type(error).__mro__}
    return next((code for name, code in _REASONS if name in names), "failed")


def resized(one: StreamFormat, data: bytes) -> StreamFormat:
    """Return a format with the size that its new parameter sets say, where they stand in front of a picture."""
    demuxer = {"h264": "h264", "hevc": "hevc", "mpeg4": "m4v"}.get(one.codec)
    if demuxer is None or not data.startswith((b"\0\0\1", b"\0\0\0\1")):
        return one
    with suppress(Exception), av.open(io.BytesIO(data), format=demuxer, options={"codec_whitelist": "none"}) as probe:
        context = probe.streams.video[0].codec_context
        if context.width and context.height:
            return replace(one, width=context.width, height=context.height)
    return one


Timed = tuple[int, bytes, bool]
"""A packet as it is written: its time, its bytes, and whether it is a key frame."""


class Fragment(NamedTuple):
    """Packets as an MP4: its header, its fragment, and the places of the packets that are in it."""

    header: bytes
    data: bytes
    kept: list[int]


def fragment(one: StreamFormat, packets: list[Timed], until_ns: int) -> Fragment:
    """Return packets, in the order of decoding, as an MP4.

    A packet of which too little came, as a connection that breaks leaves, can make a file that no demuxer reads: it is
    left out. :class:`Away` where nothing is left.
    """
    kept = list(range(len(packets)))
    data = _muxed(one, packets, until_ns)
    if not _holds(data, len(packets)):
        kept = _sound(one, packets)
        data = _muxed(one, [packets[at] for at in kept], until_ns)
    if not kept or not _holds(data, len(kept)):
        raise Away("unreadable")
    return Fragment(*split(data), kept)


def _sound(one: StreamFormat, packets: list[Timed]) -> list[int]:
    """Return the places of packets that can be read back, each behind the first that can."""
    kept: list[int] = []
    for at, packet in enumerate(packets):
        tried = [*(packets[first] for first in kept[:1]), packet]
        if _holds(_muxed(one, tried, packet[0] + TICK_NS), len(tried)):
            kept.append(at)
    return kept


def _holds(data: bytes, packets: int) -> bool:
    """Whether so many packets are read back from an MP4."""
    try:
        with av.open(io.BytesIO(data), "r", format="mp4", options={"codec_whitelist": "none"}) as container:
            return sum(packet.size > 0 for packet in container.demux()) == packets
    except Exception:  # whatever FFmpeg makes of damage
        return False


def _muxed(one: StreamFormat, packets: list[Timed], until_ns: int) -> bytes:
    """Return packets as an MP4; nothing where FFmpeg can't write them."""
    target = io.BytesIO()
    try:
        _mux(target, one, packets, until_ns)
    except Exception:
        return b""
    return target.getvalue()


def _mux(target: io.BytesIO, one: StreamFormat, packets: list[Timed], until_ns: int) -> None:
    options = {"movflags": _MOVFLAGS, "video_track_timescale": str(10**9 // TICK_NS), "avoid_negative_ts": "disabled"}
    with av.open(target, "w", format="mp4", options=options) as container:
        stream = container.add_mux_stream(one.codec, width=one.width, height=one.height)
        stream.time_base = _TICKS
        ticks = [at // TICK_NS for at, _, _ in packets]
        due = decode_times(ticks)
        for index, (_, data, is_key) in enumerate(packets):
            packet = av.Packet(data if index else with_sets(one.codec, one.extradata, data))
            packet.stream, packet.time_base = stream, _TICKS
            packet.pts, packet.dts, packet.is_keyframe = ticks[index], due[index], is_key
            last = max(until_ns // TICK_NS - max(ticks), 1)
            packet.duration = due[index + 1] - due[index] if index + 1 < len(due) else last
            container.mux_one(packet)


def decode_times(shown: list[int]) -> list[int]:
    """Return when packets are decoded: in their order, each at or before the time it is shown at."""
    ranked = sorted(shown)
    late = max((due - at for due, at in zip(ranked, shown, strict=True)), default=0)
    return [due - max(late, 0) for due in ranked]


def split(data: bytes) -> tuple[bytes, bytes]:
    """Return an MP4's boxes up to the first fragment, and the rest."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind in (b"moof", b"styp", b"sidx"):
            break
        at += size
    return data[:at], data[at:]
