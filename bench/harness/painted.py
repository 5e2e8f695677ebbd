"""Clips whose frames carry their number: a moving picture with grain, and a bar code of sixteen blocks at the top."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

RATE = 30
_BITS = 16
_ENCODERS = {
    "h264": ("libx264", {"preset": "veryfast", "crf": "24"}),
    "hevc": ("libx265", {"preset": "superfast", "crf": "26"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "7", "crf": "34", "b:v": "0", "row-mt": "1"}),
    "av1": ("libsvtav1", {"preset": "8", "crf": "36"}),  # faster ones lose the numbers of whole frames
}
_WIDTHS = {360: 640, 720: 1280, 1080: 1920}


@dataclass(frozen=True, slots=True)
class Painted:
    """The recipe of a clip."""

    codec: str
    gop: int
    height: int
    seconds: int = 20

    @property
    def name(self) -> str:
        """What tables and files call it."""
        return f"{self.codec}-gop{self.gop}-{self.height}p-{self.seconds}s"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return _WIDTHS[self.height], self.height

    def made_in(self, folder: Path) -> Path:
        """Return the clip's path, after encoding it where it is not there yet."""
        path = folder / f"{self.name}.mp4"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".unfinished.mp4")
            policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
            try:
                self._encode(unfinished)
            finally:  # SVT-AV1 gives root a real-time priority
                os.sched_setscheduler(0, policy, priority)
            unfinished.rename(path)
        return path

    def _encode(self, path: Path) -> None:
        name, options = _ENCODERS[self.codec]
        if self.codec == "h264":
            options = {**options, "x264-params": f"keyint={self.gop}:min-keyint={self.gop}:scenecut=0"}
        if self.codec == "hevc":
            keys = f"keyint={self.gop}:min-keyint={self.gop}:scenecut=0:open-gop=0:log-level=none"
            options = {**options, "x265-params": keys}
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream(name, RATE, options=options)
            stream.width, stream.height = self.size
            stream.pix_fmt, stream.gop_size = "yuv420p", self.gop
            stream.codec_context.thread_count = 0
            for number, picture in enumerate(pictures(*self.size, self.seconds * RATE)):
                frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
                frame.pts = number
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


def pictures(width: int, height: int, count: int) -> Iterator[NDArray[np.uint8]]:
    """Yield frames as ``uint8[H * 3 / 2, W]`` in yuv420p: a texture that drifts, grain, and the frame's number."""
    rng = np.random.default_rng(height)
    rough = rng.integers(40, 216, (height // 8 + 40, width // 8 + 60)).astype(np.float32)
    for axis in (0, 1):
        rough = (rough + np.roll(rough, 1, axis) + np.roll(rough, 2, axis)) / np.float32(3)
    texture = np.kron(rough, np.ones((8, 8), np.float32))
    grain = [rng.normal(0, 2.5, (height, width)).astype(np.float32) for _ in range(6)]
    for number in range(count):
        x, y = (number * 3) % 480, int(120 + 100 * np.sin(number / 40))
        light = texture[y : y + height, x : x + width] + grain[number % len(grain)]
        picture = np.empty((height * 3 // 2, width), np.uint8)
        picture[:height] = np.clip(light, 16, 235)
        picture[height:] = np.clip(128 + (picture[: height // 2] // 4 - 32), 64, 192)
        for bit in range(_BITS):
            left, right = bit * width // _BITS, (bit + 1) * width // _BITS
            picture[: height // 8, left:right] = 220 if number >> bit & 1 else 30
        yield picture


def numbered_part(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the rows of ``uint8[H, W, 3]`` that show its number."""
    height = len(frame)
    return frame[height // 20 : height // 10]


def number_in(part: NDArray[np.uint8]) -> int:
    """Return the number that these rows of a frame show; -1 when they show none."""
    width, line = part.shape[1], part.mean((0, 2))
    number = 0
    for bit in range(_BITS):
        middle = (2 * bit + 1) * width // (2 * _BITS)
        level = float(line[middle - 2 : middle + 3].mean())
        if 90 < level < 165:
            return -1
        number |= int(level > 127) << bit
    return number
