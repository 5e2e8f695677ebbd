"""The frames of a short clip, exactly those that the daemon shows of it as one window.

The daemon's own functions give the sample times, the frame on screen at each, and the conversion to RGB. Only the
reading differs: it is one pass in this process, which is fast for short clips and safe for those of this project.
"""

import io

import av
import numpy as np
from numpy.typing import NDArray

from daemon.decoding.child.pixels import write_rgb
from daemon.decoding.child.pyav import new_scaler
from daemon.windows import NS_PER_S, frames_on_screen, sample_times


def read_clip_frames(clip: bytes, count: int) -> tuple[NDArray[np.uint8], list[float]]:
    """Return ``uint8[count, H, W, 3]`` RGB and the time at which each frame begins, as a fraction of the clip."""
    with av.open(io.BytesIO(clip), "r") as container:
        stream = container.streams.video[0]
        base = stream.time_base
        frames = [frame for frame in container.decode(stream) if frame.pts is not None]
    if not frames or base is None:
        raise ValueError("the clip has no frame with a time stamp")
    ns_per_tick = base * NS_PER_S
    first = frames[0].pts or 0
    pts_ns = np.array([int(((frame.pts or 0) - first) * ns_per_tick) for frame in frames], dtype=np.int64)
    last_ns = int((frames[-1].duration or 0) * ns_per_tick) or int(pts_ns[-1]) // max(1, len(frames) - 1)
    duration_ns = int(pts_ns[-1]) + max(1, last_ns)
    shown = frames_on_screen(pts_ns, sample_times(0, duration_ns, count))
    scaler = new_scaler()
    rgb = np.empty((count, frames[0].height, frames[0].width, 3), dtype=np.uint8)
    for k, number in enumerate(shown):
        write_rgb(frames[number], rgb[k], scaler)
    return rgb, [int(pts_ns[number]) / duration_ns for number in shown]
