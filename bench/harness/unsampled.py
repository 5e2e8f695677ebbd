"""The daemon as it ships, over a configuration, but for its sampler: every clip has six windows, made of nothing.

`python -m bench.harness.unsampled CONFIG` runs until SIGTERM. What is left is delivery: sources, main loop, routes
and sink.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from connectors.contract import Clip
from daemon import build as assembly
from daemon.config.file import load
from daemon.decoding.sampler import Sampler
from daemon.service import logs
from daemon.supervisor import Supervisor
from daemon.windows import NS_PER_S, FramePolicy, FrameSet, PlannedWindows, WindowPolicy, plan_windows
from neva import registration

WINDOWS, FRAMES, SIDE_PX = 6, 2, 8


@dataclass
class Planned:
    """Six windows of a second."""

    windows: PlannedWindows
    media_start_ns: int = 0

    def close(self) -> None:
        """Nothing is open."""


class NoSampler(Sampler):
    """Gives every clip the same frames, in no time. Of a plan it knows the windows alone."""

    async def start(self) -> None:
        """Start no decoder."""
        pixels = np.zeros((FRAMES, SIDE_PX, SIDE_PX, 3), np.uint8)
        pts_ns = np.arange(WINDOWS * FRAMES, dtype=np.int64) * NS_PER_S // FRAMES
        seconds = WindowPolicy(NS_PER_S, NS_PER_S, NS_PER_S // 2)
        self.windows = plan_windows(pts_ns, WINDOWS * NS_PER_S, seconds, FramePolicy(num_frames=FRAMES))
        self.shown = [FrameSet(window, pixels, window.sample_ns) for window in self.windows]

    async def plan(self, clip: Clip, windows: WindowPolicy, frames: FramePolicy, decoder: str = "av") -> Planned:  # type: ignore[override]
        """Plan without a look at the clip."""
        return Planned(self.windows)

    async def reach(self, plan: Planned, windows: int | None = None) -> bool:  # type: ignore[override]
        """Know of all windows from the beginning."""
        return windows is None or len(plan.windows) >= windows

    async def frame_sets(  # type: ignore[override]
        self, plan: Planned, first_window: int = 0
    ) -> AsyncGenerator[FrameSet, None]:
        """Yield every window at once."""
        for frame_set in self.shown[first_window:]:
            yield frame_set

    def release(self, frame_set: FrameSet, *, let_go: bool = False) -> None:
        """Nothing was reserved."""


def main() -> int:
    """Return the daemon's exit code."""
    registration.register()
    settings = load(Path(sys.argv[1]))
    logs.set_up(settings.log)

    async def work() -> int:
        components = assembly.build_components(settings)
        unsampled = replace(components, sampler=NoSampler(settings.limits, settings.timeouts))
        return int(await Supervisor(unsampled).run())

    return asyncio.run(work())


if __name__ == "__main__":
    sys.exit(main())
