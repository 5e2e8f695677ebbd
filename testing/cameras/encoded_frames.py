"""Numbered frames as a camera's packets, without a camera: for tests that damage them."""

import io
import os
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from connectors.stream.child.packet import StreamFormat
from connectors.stream.child.parameter_sets import parameter_sets
from connectors.stream.child.pyav import fragment
from testing.cameras.painted_frames import number_of, painted

WIDTH, HEIGHT, FPS = 256, 144, 25
STEP_NS = 10**9 // FPS
BEGIN_NS = 10**9  # when the first frame is shown
ENCODERS = {
    "h264": ("libx264", {"preset": "ultrafast", "tune": "zerolatency", "sc_threshold": "0"}),
    "h264 with B-frames": ("libx264", {"preset": "ultrafast", "bf": "2", "sc_threshold": "0"}),
    "hevc": ("libx265", {"preset": "ultrafast", "tune": "zerolatency", "x265-params": "log-level=none"}),
    "av1": ("libsvtav1", {"preset": "12", "svtav1-params": "lp=1:pred-struct=1"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    "mpeg4": ("mpeg4", {}),
    "mpeg2video": ("mpeg2video", {}),
    "mjpeg": ("mjpeg", {}),
}


@dataclass(frozen=True)
class Encoded:
    """A stream's packets in the order of decoding: time, bytes, and whether a key frame."""

    format: StreamFormat
    packets: list[tuple[int, bytes, bool]]

    def recorded(self, first=0, last=None):
        """Return these packets as a file of one segment."""
        packets = self.packets[first:last]
        until_ns = max(at for at, _, _ in packets) + STEP_NS
        header, data, _ = fragment(self.format, packets, until_ns)
        return header + data

    def cut(self, place, size):
        """Return the stream with one packet of which so many bytes came."""
        at, data, is_key = self.packets[place]
        packets = [*self.packets]
        packets[place] = at, data[:size], is_key
        return Encoded(self.format, packets)


def encoded(kind, frames, gop=FPS):
    """Encode so many frames, numbered from 0 on."""
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        return _encoded(kind, frames, gop)
    finally:
        os.sched_setscheduler(0, policy, priority)  # SVT-AV1 takes real-time priority


def _encoded(kind, frames, gop):
    name, options = ENCODERS[kind]
    encoder = av.CodecContext.create(name, "w")
    encoder.width, encoder.height, encoder.gop_size = WIDTH, HEIGHT, gop
    encoder.pix_fmt = "yuvj420p" if name == "mjpeg" else "yuv420p"
    encoder.time_base, encoder.framerate, encoder.options = Fraction(1, FPS), Fraction(FPS), options
    packets = []
    for number in [*range(frames), None]:
        frame = None
        if number is not None:
            planes = np.frombuffer(painted(number, WIDTH, HEIGHT), np.uint8).reshape(HEIGHT * 3 // 2, WIDTH)
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts = number
        packets += [(BEGIN_NS + one.pts * STEP_NS, bytes(one), one.is_keyframe) for one in encoder.encode(frame)]
    codec = kind.partition(" ")[0]
    extradata = parameter_sets(codec, packets[0][1]) or bytes(encoder.extradata or b"")
    return Encoded(StreamFormat(codec, WIDTH, HEIGHT, extradata), packets)


def numbers_in(media):
    """Return the numbers of the frames that a file shows; a packet that the decoder refuses shows none."""
    found = []
    with av.open(io.BytesIO(media)) as container:
        for packet in container.demux(video=0):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            found += [number_of(frame.to_ndarray(format="gray")) for frame in frames if not frame.is_corrupt]
    return found
