"""Clips made when they are needed, each with the truth about it: which number is on screen when.

Every recipe writes one file with PyAV and returns a :class:`Truth` that owes nothing to the code under test.
"""

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.corpus.painted import HEIGHT, WIDTH, paint

NS = 1_000_000_000
RATE = 25


@dataclass(frozen=True)
class Truth:
    """``times_ns[k]`` is when frame ``numbers[k]`` comes on screen, from the first one; then the clip's end."""

    path: Path
    times_ns: tuple[int, ...]
    duration_ns: int
    numbers: tuple[int, ...]
    size: tuple[int, int]

    def number_at(self, time_ns):
        """Return the number on screen at a time."""
        shown = max(int(np.searchsorted(self.times_ns, time_ns, side="right")) - 1, 0)
        return self.numbers[shown]


@dataclass(frozen=True)
class Recipe:
    """How a clip is encoded. ``ticks`` are the frames' time stamps in ``1/clock`` s, else they are RATE a second."""

    codec: str = "libx264"
    suffix: str = "mp4"
    frames: int = 75
    options: dict = field(default_factory=dict)
    container_options: dict = field(default_factory=dict)
    pixels: str = "yuv420p"
    ticks: tuple[int, ...] = ()
    clock: int = RATE
    turned: int = 0  # degrees, as av_display_rotation_set takes them
    mirrored: bool = False
    aspect: Fraction | None = None
    hidden: int = 0  # leading frames that an edit list keeps off the screen
    size: tuple[int, int] = (WIDTH, HEIGHT)
    muxer: str | None = None


_encoded: dict[str, bytes] = {}  # what recipes gave, so that none is encoded twice in one run


def make(path, recipe):
    """Write a clip by a recipe and return its truth."""
    path = Path(f"{path}.{recipe.suffix}")
    ticks = recipe.ticks or tuple(range(recipe.frames))
    if repr(recipe) not in _encoded:
        with _usual_priority():
            _encode(path, recipe, ticks)
        _encoded[repr(recipe)] = path.read_bytes()
    path.write_bytes(_encoded[repr(recipe)])
    shown = ticks[recipe.hidden :]
    times = tuple((tick - shown[0]) * NS // recipe.clock for tick in shown)
    last = times[-1] - times[-2] if len(times) > 1 else NS // RATE
    size = recipe.size[:: -1 if recipe.turned % 180 else 1]
    return Truth(path, times, times[-1] + last, tuple(range(recipe.hidden, len(ticks))), size)


@contextmanager
def _usual_priority():
    """Take back the real-time priority that SVT-AV1 gives to root: what a test starts later would starve all else."""
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, priority)


def _encode(path, recipe, ticks):
    options = {"bf": "3", "g": "25", **recipe.options} if recipe.codec == "libx264" else dict(recipe.options)
    with av.open(str(path), "w", format=recipe.muxer, options=recipe.container_options) as container:
        stream = container.add_stream(recipe.codec, rate=recipe.clock, options=options)
        stream.width, stream.height, stream.pix_fmt = *recipe.size, recipe.pixels
        stream.codec_context.time_base = Fraction(1, recipe.clock)
        stream.codec_context.thread_count = 1
        if recipe.aspect:
            stream.codec_context.sample_aspect_ratio = recipe.aspect
        if recipe.turned or recipe.mirrored:
            stream.set_display_rotation(recipe.turned, recipe.mirrored, False)
        for number, tick in enumerate(ticks):
            picture = _stored(paint(number), recipe)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(
                format=recipe.pixels, dst_colorspace="itu601", dst_color_range="MPEG"
            )
            frame.pts, frame.time_base = tick, Fraction(1, recipe.clock)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def repeat(path, truth, times):
    """Write a clip that shows another one many times, without encoding it again; its bar codes repeat."""
    path = Path(f"{path}{truth.path.suffix}")
    with av.open(str(truth.path)) as source, av.open(str(path), "w") as container:
        stream = source.streams.video[0]
        copy = container.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.size]
        length = max(packet.pts + packet.duration for packet in packets) - min(packet.pts for packet in packets)
        stamps = [(packet.pts, packet.dts) for packet in packets]
        for turn in range(times):
            for packet, (pts, dts) in zip(packets, stamps, strict=True):
                packet.stream, packet.pts, packet.dts = copy, pts + turn * length, dts + turn * length
                packet.time_base = stream.time_base
                container.mux(packet)
    return path


def _stored(upright, recipe):
    """Return the picture as it is stored, so that the display matrix brings it upright."""
    if recipe.mirrored:
        return np.ascontiguousarray(upright[:, ::-1])
    height, width = recipe.size[::-1]
    if recipe.turned % 180 == 0:
        rows, columns = np.arange(height) * HEIGHT // height, np.arange(width) * WIDTH // width
        upright = upright[rows][:, columns]
    return np.ascontiguousarray(np.rot90(upright, -recipe.turned // 90))


def _vfr():
    """Return 60 rising ticks of a millisecond clock with uneven steps and a gap of four seconds."""
    steps = [(17, 40, 120, 33, 7)[k % 5] for k in range(60)]
    steps[30] = 4000
    return tuple(int(t) for t in np.cumsum([0, *steps[:-1]]))


READABLE = {
    "h264": Recipe(),
    "h264_open_gop": Recipe(options={"x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0:bframes=3"}),
    "h264_gop_250": Recipe(frames=300, options={"g": "250", "bf": "3", "x264-params": "b-pyramid=normal"}),
    "h264_intra": Recipe(options={"g": "1", "bf": "0"}),
    "h264_intra_refresh": Recipe(options={"x264-params": "intra-refresh=1:keyint=25:bframes=0"}),
    "h264_fragmented": Recipe(container_options={"movflags": "frag_keyframe+empty_moov"}),
    "h264_mkv": Recipe(suffix="mkv"),
    "h264_avi_b_frames": Recipe(suffix="avi"),
    "h264_mov": Recipe(suffix="mov"),
    "h264_ts_late_start": Recipe(suffix="ts", ticks=tuple(range(9000, 9075))),
    "h264_mbaff": Recipe(options={"x264-params": "interlaced=1"}, size=(256, 160)),
    "hevc_10_bit": Recipe("libx265", pixels="yuv420p10le", options={"x265-params": "log-level=none:keyint=20"}),
    "vp8": Recipe("libvpx", "webm", options={"auto-alt-ref": "1", "lag-in-frames": "10", "g": "25", "b": "400k"}),
    "vp9": Recipe("libvpx-vp9", "webm", frames=50, options={"g": "20", "deadline": "realtime", "cpu-used": "8"}),
    "av1": Recipe("libsvtav1", "mp4", frames=40, options={"preset": "12", "svtav1-params": "lp=1", "g": "20"}),
    "mpeg4_avi": Recipe("mpeg4", "avi", options={"g": "12", "b": "800k"}),
    "mpeg4_avi_b_frames": Recipe("mpeg4", "avi", options={"g": "12", "bf": "2", "b": "800k"}),
    "mpeg2_ps_interlaced": Recipe("mpeg2video", "mpg", options={"g": "12", "bf": "2", "flags": "+ildct+ilme"}),
    "h264_ts_wrap": Recipe(suffix="ts", ticks=tuple(range(2**33 // 3600 - 30, 2**33 // 3600 + 45))),
    "mpeg2_ts": Recipe("mpeg2video", "ts", options={"g": "12", "bf": "2"}),
    "mjpeg_avi": Recipe("mjpeg", "avi", pixels="yuvj420p"),
    "ffv1_mkv": Recipe("ffv1", "mkv"),
    "vfr_mp4": Recipe(ticks=_vfr(), clock=1000),
    "vfr_mkv": Recipe(suffix="mkv", ticks=_vfr(), clock=1000),
    "no_times_mkv": Recipe(  # Matroska has no negative times: FFmpeg reads the first ten as unknown
        suffix="mkv", ticks=tuple(range(-10, 65)), container_options={"avoid_negative_ts": "disabled"}
    ),
    "negative_start_mp4": Recipe(
        ticks=tuple(range(-10, 65)),
        hidden=10,
        container_options={"avoid_negative_ts": "disabled", "use_editlist": "1"},
    ),
    "edit_list_mp4": Recipe(ticks=tuple(range(50, 125))),
    "rotated_90": Recipe(turned=90, size=(HEIGHT, WIDTH)),
    "rotated_180": Recipe(turned=180),
    "rotated_270": Recipe(turned=270, size=(HEIGHT, WIDTH)),
    "mirrored": Recipe(mirrored=True),
    "one_frame": Recipe(frames=1),
    "gif": Recipe("gif", "gif", pixels="rgb8", frames=20),
}
