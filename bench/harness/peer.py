"""A peer of the sampler, alone in its process: ``python peer.py``, in the peers' own environment.

It imports nothing of captiond. Each line of its input asks for the windows of one clip by one library, each line of its
output answers with seconds and with the numbers that the frames show:

    {"peer": "decord", "path": ..., "threads": 0, "windows": [[frame indices], ...], "groups": [...]}
    {"wall_s": ..., "cpu_s": ..., "numbers": [[...], ...]}
"""

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

RATE = 30
BITS = 16  # of the number in a frame


def by_decord(asked: dict[str, Any]) -> Iterator[list[Any]]:
    """Yield the windows' frames."""
    import decord

    reader = decord.VideoReader(asked["path"], num_threads=asked["threads"])
    for window in asked["windows"]:
        yield list(reader.get_batch(window).asnumpy())


def by_torchcodec(asked: dict[str, Any]) -> Iterator[list[Any]]:
    """Yield the windows' frames."""
    from torchcodec.decoders import VideoDecoder

    threads = asked["threads"]
    decoder = VideoDecoder(asked["path"], dimension_order="NHWC", num_ffmpeg_threads=threads, seek_mode="exact")
    for window in asked["windows"]:
        yield list(decoder.get_frames_at(window).data.numpy())


def by_opencv(asked: dict[str, Any]) -> Iterator[list[Any]]:
    """Yield the windows' frames, after a step through all that lie before them."""
    import cv2

    options = [cv2.CAP_PROP_N_THREADS, asked["threads"]] if asked["threads"] else []
    capture = cv2.VideoCapture(asked["path"], cv2.CAP_FFMPEG, options)
    at = -1
    for window in asked["windows"]:
        frames = []
        for index in window:
            while at < index:
                capture.grab()
                at += 1
            frames.append(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB))
        yield frames
    capture.release()


def by_pyav(asked: dict[str, Any]) -> Iterator[list[Any]]:
    """Yield the windows' frames, after decoding all that lie before them."""
    container, stream = _open(asked)
    decoded = enumerate(container.decode(stream))
    for window in asked["windows"]:
        frames, left = [], list(window)
        while left:
            at, frame = next(decoded)
            if at == left[0]:
                frames.append(frame.to_ndarray(format="rgb24"))
                left.pop(0)
        yield frames
    container.close()


def by_pyav_seeking(asked: dict[str, Any]) -> Iterator[list[Any]]:
    """Yield the windows' frames, each after a seek to the key frame before it."""
    container, stream = _open(asked)
    for window in asked["windows"]:
        frames = []
        for index in window:
            ticks = round(index / RATE / stream.time_base)
            container.seek(ticks, stream=stream)
            frame = next(frame for frame in container.decode(stream) if frame.pts >= ticks)
            frames.append(frame.to_ndarray(format="rgb24"))
        yield frames
    container.close()


def by_the_least(asked: dict[str, Any]) -> Iterator[list[Any]]:
    """Yield the windows' frames as soon as may be, told beforehand which packets hold them and what these need.

    Each of ``groups`` begins with the packet from which decoding starts, and lists packets and the frames they hold.
    """
    container, stream = _open(asked)
    context, packets, at = stream.codec_context, container.demux(stream), 0
    keeper = _Keeper()
    may_skip = stream.codec_context.name in ("h264", "hevc")  # others decide once
    for group in asked["groups"]:
        holders = {place: index for place, index in group["frames"]}
        if group["start"]:
            context.flush_buffers()
        for packet in packets:
            at += 1
            if at <= group["start"]:
                continue
            if at - 1 in holders:
                keeper.wanted[packet.pts] = holders[at - 1]
            if may_skip:
                context.skip_frame = "DEFAULT" if at - 1 in holders else "NONREF"
            keeper.take(context.decode(packet))
            if at > max(holders):
                break
        keeper.take(context.decode(None))
    for window in asked["windows"]:
        yield [keeper.kept[index] for index in window]
    container.close()


class _Keeper:
    """Converts the frames that are wanted, as the sampler does."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._planes, self._packed = VideoReformatter(), VideoReformatter()
        self.wanted: dict[int, int] = {}
        self.kept: dict[int, Any] = {}

    def take(self, frames: list[Any]) -> None:
        scaling = 4 | 0x2000 | 0x4000 | 0x40000
        for frame in frames:
            if frame.pts in self.wanted:
                planes = self._planes.reformat(
                    frame, format="gbrp", dst_color_range=2, interpolation=scaling, threads=1
                )
                rgb = self._packed.reformat(planes, format="rgb24", src_color_range=2, dst_color_range=2, threads=1)
                self.kept[self.wanted[frame.pts]] = rgb.to_ndarray()


PEERS = {
    "decord": by_decord,
    "torchcodec": by_torchcodec,
    "OpenCV": by_opencv,
    "PyAV": by_pyav,
    "PyAV, seeking": by_pyav_seeking,
    "the least": by_the_least,
}


def _open(asked: dict[str, Any]) -> tuple[Any, Any]:
    import av

    container = av.open(asked["path"])
    stream = container.streams.video[0]
    stream.codec_context.thread_count, stream.codec_context.thread_type = asked["threads"], "AUTO"
    return container, stream


def _number_of(frame: Any) -> int:
    height, width = frame.shape[:2]
    line = frame[height // 20 : height // 10].mean((0, 2))
    number = 0
    for bit in range(BITS):
        middle = (2 * bit + 1) * width // (2 * BITS)
        number |= int(line[middle - 2 : middle + 3].mean() > 127) << bit
    return number


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Do what is asked, and say what it took."""
    wall_s, cpu_s = 0.0, 0.0
    numbers: list[list[int]] = []
    windows = PEERS[asked["peer"]](asked)
    while True:
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        window = next(windows, None)
        wall_s, cpu_s = wall_s + time.perf_counter() - began_s, cpu_s + time.process_time() - began_cpu_s
        if window is None:
            return {"wall_s": wall_s, "cpu_s": cpu_s, "numbers": numbers}
        numbers.append([_number_of(frame) for frame in window])


def main() -> None:
    """Answer until the input ends; a library that fails or is not there is said so."""
    for line in sys.stdin:
        try:
            said = answer(json.loads(line))
        except Exception as error:  # whatever a library raises
            said = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
