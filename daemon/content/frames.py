"""The choice of frames within a span: evenly spread times, NeVA's evenly spread frames, and what is on screen then."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Splice = Literal["first", "middle", "last"]


def sample_times(start_ns: int, exclusive_end_ns: int, count: int) -> tuple[int, ...]:
    """Return ``count`` times spread evenly over the span, each in the middle of its share."""
    length_ns = exclusive_end_ns - start_ns
    return tuple(start_ns + (2 * k + 1) * length_ns // (2 * count) for k in range(count))


def neva_frame_indices(length: int, num_frames: int, splice: Splice | None = None) -> list[int]:
    """Return Video NeVA's choice among ``length`` frames (NeMo v2.0.0, ``TarOrFolderVideoLoader.flatten_frames``).

    ``num_frames`` of -1 means every frame. numpy's own ``linspace`` is called: its rounding is part of the rule.
    """
    if length <= 0:
        raise ValueError("no frame can be chosen among none")
    if splice is not None:
        return [{"first": 0, "middle": length // 2, "last": length - 1}[splice]]
    if num_frames == -1:
        return list(range(length))
    chosen = [int(i) for i in np.linspace(0, length - 1, min(length, num_frames), dtype=int)]
    return chosen + [chosen[-1]] * (num_frames - len(chosen))


def frames_on_screen(pts_ns: NDArray[np.int64], times_ns: tuple[int, ...]) -> list[int]:
    """Return the index of the frame on screen at each time: the last with ``pts <= time``, else the first."""
    shown = np.searchsorted(pts_ns, np.asarray(times_ns, dtype=np.int64), side="right") - 1
    return [int(i) for i in np.maximum(shown, 0)]
