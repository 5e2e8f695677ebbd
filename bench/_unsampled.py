"""The daemon as it ships, over a configuration, but for its sampler: every clip has six windows, made of nothing.

`python -m bench._unsampled CONFIG` runs until SIGTERM. What is left is delivery: sources, main loop, routes and sink.
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
from daemon.windows import NS_PER_S, FramePolicy, FrameSet, Window, WindowPolicy, sample_times
from neva import registration

WINDOWS, FRAMES, SIDE_PX = 6, 2, 8


@dataclass
class Planned:
    """Six windows of a second."""

    windows: tuple[Window, ...]
    media_start_ns: int = 0

    def close(self) -> None:
        """Nothing is open."""


class NoSampler(Sampler):
    """Gives every clip the same frames, in no time."""

    async def start(self) -> None:
        """Start no decoder."""
        pixels = np.zeros((FRAMES, SIDE_PX, SIDE_PX, 3), np.uint8)
        spans = [(index * NS_PER_S, (index + 1) * NS_PER_S) for index in range(WINDOWS)]
        windows = (Window(n, *span, sample_times(*span, FRAMES), tuple(range(FRAMES))) for n, span in enumerate(spans))
        self.shown = [FrameSet(window, pixels, window.sample_ns) for window in windows]

    async def plan(self, clip: Clip, windows: WindowPolicy, frames: FramePolicy, decoder: str = "av") -> Planned:
        """Plan without a look at the clip."""
        return Planned(tuple(frame_set.window for frame_set in self.shown))

    async def frame_sets(self, plan: Planned, first_window: int = 0) -> AsyncGenerator[FrameSet, None]:
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
