"""The price of the cage: the sampler of this checkout against that of another one, in turns, over the same clips.

    python -m bench.cage BEFORE [ROUNDS]

BEFORE is a checkout from before decoders were confined by default. Real clips are sampled whole, and a short clip of
one window many times. Printed are ratios, this checkout over the other, with their spread: seconds on the clock, and
seconds of processor time.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path

from testing.repository import ROOT

PROGRAM = """
import asyncio, json, os, resource, sys, time
sys.path.insert(0, os.getcwd())
try:
    from daemon.config.settings import LimitsSettings, TimeoutsSettings
    from daemon.decoding.sampler import Sampler
except ImportError:
    from daemon.config import LimitsSettings, TimeoutsSettings
    from daemon.sampler import Sampler
from connectors.contract import Clip
from daemon.windows import FramePolicy, FrameSet, WindowPolicy

class File:
    def __init__(self, path):
        self.path, self.name, self.size_bytes = path, path, os.path.getsize(path)
    def open(self):
        return os.open(self.path, os.O_RDONLY)
    def close(self):
        pass

async def take(sampler, path, source):
    plan = await sampler.plan(Clip(path, source, File(path), 0), WindowPolicy(), FramePolicy())
    async for window in sampler.frame_sets(plan):
        if isinstance(window, FrameSet):
            sampler.release(window)
    plan.close()

async def main(clips, short):
    begun = time.perf_counter()
    sampler = Sampler(LimitsSettings(), TimeoutsSettings())
    await sampler.start()
    started = time.perf_counter()
    for _ in range(3):
        for clip in clips:
            await take(sampler, clip, "clips")
    sampled = time.perf_counter()
    for _ in range(100):
        await take(sampler, short, "short")
    ended = time.perf_counter()
    await sampler.close()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps({
        "start": started - begun, "clips": sampled - started, "short clips": ended - sampled,
        "processor time": sum(one.ru_utime + one.ru_stime for one in used),
    }))

asyncio.run(main(sys.argv[2:], sys.argv[1]))
"""


def run(checkout: Path, short: Path, clips: list[Path]) -> dict[str, float]:
    """Return the seconds that one round takes in a checkout."""
    command = [sys.executable, "-c", PROGRAM, str(short), *map(str, clips)]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def main() -> int:
    """Print the ratios."""
    if len(sys.argv) < 2:
        print("python -m bench.cage BEFORE [ROUNDS]: it needs another checkout to compare with.")
        return 0
    before, rounds = Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 5
    clips = sorted((ROOT / "build" / "clips").glob("*.mp4"))
    short = next(clip for clip in clips if clip.name == "carphone_pristine.mp4")
    ratios: dict[str, list[float]] = {}
    for _ in range(rounds):
        old, new = run(before, short, clips), run(ROOT, short, clips)
        for name, seconds in new.items():
            ratios.setdefault(name, []).append(seconds / old[name])
    for name, found in ratios.items():
        print(f"{name:16} {statistics.median(found):.3f} times ({min(found):.3f} to {max(found):.3f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
