"""Frame sets for tests of engines: noise of a given seed and shape, at evenly spread times."""

import numpy as np

from daemon.windows import NS_PER_S, FrameSet, Window, sample_times


def noise(num_frames: int, height: int, width: int, *, seed: int = 0, index: int = 0, window_s: int = 10) -> FrameSet:
    """Return window ``index`` of ``window_s`` seconds with ``num_frames`` frames of noise."""
    start_ns, end_ns = index * window_s * NS_PER_S, (index + 1) * window_s * NS_PER_S
    times = sample_times(start_ns, end_ns, num_frames)
    pixels = np.random.default_rng(seed).integers(0, 255, (num_frames, height, width, 3), dtype=np.uint8)
    return FrameSet(Window(index, start_ns, end_ns, times, tuple(range(num_frames))), pixels, times)
