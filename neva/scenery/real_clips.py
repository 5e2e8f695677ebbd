"""Windows of real clips, with the frames that the model sees of each and its measured truth."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from daemon.windows import NS_PER_S, frames_on_screen, sample_times
from neva.scenery.compose import SIDE_PX
from neva.scenery.measured import Truth, measure_window

LENGTHS_S = (1.0, 2.0, 4.0)
FRAMES = 8
_KEPT_PX = 256  # of a decoded frame's centre square


@dataclass(frozen=True, slots=True)
class Window:
    """``frames`` is ``uint8[F, S, S, 3]``; ``name`` says the clip and the times."""

    name: str
    frames: NDArray[np.uint8]
    truth: Truth


def windows_of(path: Path, lengths_s: tuple[float, ...] = LENGTHS_S) -> Iterator[Window]:
    """Yield a clip's windows of each length, one after another."""
    times, frames = _decoded(path)
    for length_s in lengths_s:
        length = int(length_s * NS_PER_S)
        for start in range(0, int(times[-1]) - length + 1, length):
            shown = np.asarray(frames_on_screen(times, sample_times(start, start + length, FRAMES)))
            first, last = int(shown[0]), int(shown[-1])
            if len(set(shown.tolist())) < FRAMES:
                continue
            inside = frames[first : last + 1]
            small = [
                np.asarray(cv2.resize(frames[n], (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA), np.uint8)
                for n in shown
            ]
            truth = measure_window(inside, [int(n) - first for n in shown])
            yield Window(f"{path.stem} {start / NS_PER_S:.0f}+{length_s:.0f} s", np.stack(small), truth)


def _decoded(path: Path) -> tuple[NDArray[np.int64], list[NDArray[np.uint8]]]:
    """Return the times and the centre squares of a clip's frames."""
    times, frames = [], []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for number, frame in enumerate(container.decode(stream)):
            rate = float(stream.average_rate or 25)
            times.append(int((frame.time if frame.time is not None else number / rate) * NS_PER_S))
            rgb = frame.to_ndarray(format="rgb24")
            side = min(rgb.shape[:2])
            top, left = (rgb.shape[0] - side) // 2, (rgb.shape[1] - side) // 2
            square = rgb[top : top + side, left : left + side]
            frames.append(np.asarray(cv2.resize(square, (_KEPT_PX, _KEPT_PX), interpolation=cv2.INTER_AREA), np.uint8))
    begun = np.array(times, dtype=np.int64)
    return begun - begun[0], frames
