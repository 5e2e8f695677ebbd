"""Shots: how many of the known cuts of spliced clips are found, how many others, and what looking for them costs.

    python -m bench.shots [--clips 60]

The clips are drawn and spliced by :mod:`testing.spliced_clips`: hard cuts and fades through black are to be found;
flashes, quick pans, zooms and shaking cameras are not. A cut counts as found where it is at most a frame away; a fade
where the cut lies within it. Two cuts at one transition count as one. Beside the daemon's search, which looks at small
frames in a caged decoder, PySceneDetect runs as its own command does, on full frames, with the same two detectors and
their defaults. TransNet V2 is not run: its F1 scores are what its authors published, of films and not of these clips.
"""

import argparse
import asyncio
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.harness.report import report
from connectors.terminal import named_clip
from daemon.config.settings import LimitsSettings, TimeoutsSettings
from daemon.content.shots import shot_detector
from daemon.decoding.sampler import Sampler
from daemon.windows import NS_PER_S, FramePolicy, FrameSet, ShotPolicy, WindowPolicy
from testing.spliced_clips import ENCODINGS, RATE, Spliced, splice

# https://github.com/soCzech/TransNetV2, README, and Soucek and Lokoc, TransNet V2 (arXiv:2008.04838), table 2
TRANSNET_V2_F1 = {"ClipShots": 0.779, "BBC Planet Earth": 0.962, "RAI": 0.939}
LEAST_PRECISION, LEAST_RECALL = 0.9, 0.95

# windows so short that every cut found ends one
SHORT = WindowPolicy(NS_PER_S, NS_PER_S, 0, shots=ShotPolicy(NS_PER_S // 2, 0.5, shot_detector()))


@dataclass
class Tally:
    """What a search found of all clips, and what it took."""

    hits: int = 0
    extra: int = 0
    missed: int = 0
    cpu_s: float = 0.0

    def count(self, found: Sequence[int], clip: Spliced) -> None:
        """Count the cuts of a clip."""
        met = [any(one.is_met_by(frame) for frame in found) for one in clip.transitions]
        self.hits += sum(met)
        self.missed += len(met) - sum(met)
        self.extra += sum(not any(one.is_met_by(frame) for one in clip.transitions) for frame in found)

    def row(self, name: str) -> dict[str, float | str]:
        """Return a line of the table."""
        precision, recall = self.hits / max(self.hits + self.extra, 1), self.hits / max(self.hits + self.missed, 1)
        f1 = 2 * precision * recall / max(precision + recall, 1e-9)
        return {"search": name, "precision": precision, "recall": recall, "f1": f1, "cpu_s": round(self.cpu_s, 2)}


async def ours(sampler: Sampler, clip: Spliced, tally: Tally) -> float:
    """Count what the daemon finds; return the processor seconds that planning and decoding the windows took."""
    plan = await sampler.plan(named_clip("bench", clip.path), SHORT, FramePolicy())
    used = plan.session.time
    planned_s = used.used_s
    await sampler.reach(plan)
    tally.cpu_s += used.used_s - planned_s
    assert plan.windows.shots is not None
    tally.count([round(cut * RATE / NS_PER_S) for cut in plan.windows.shots.cuts_ns], clip)
    searched_s = used.used_s
    async for window in sampler.frame_sets(plan):
        if isinstance(window, FrameSet):
            sampler.release(window)
    rest_s = planned_s + used.used_s - searched_s
    plan.close()
    return rest_s


def theirs(clip: Spliced, tally: Tally) -> None:
    """Count what PySceneDetect finds."""
    from scenedetect import AdaptiveDetector, SceneManager, ThresholdDetector, open_video

    began = time.process_time()
    manager = SceneManager()
    manager.auto_downscale = False
    manager.add_detector(AdaptiveDetector())
    manager.add_detector(ThresholdDetector())
    manager.detect_scenes(open_video(str(clip.path)))
    tally.cpu_s += time.process_time() - began
    tally.count([start.frame_num for start, _ in manager.get_scene_list()[1:]], clip)


async def measure(folder: Path, clips: int) -> tuple[Tally, Tally, float]:
    """Return what both find in so many clips, and the processor seconds of the daemon's sampler without the search."""
    mine, other, rest_s = Tally(), Tally(), 0.0
    sampler = Sampler(LimitsSettings(decoders=1), TimeoutsSettings())
    await sampler.start()
    try:
        for seed in range(clips):
            clip = splice(folder / f"{seed}.mp4", seed, options=ENCODINGS[seed % len(ENCODINGS)])
            rest_s += await ours(sampler, clip, mine)
            theirs(clip, other)
            clip.path.unlink()
    finally:
        await sampler.close()
    return mine, other, rest_s


def main() -> int:
    """Print what was measured; 1 when the daemon finds less than it should, or finds what is not there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=60)
    clips = parser.parse_args().clips
    warnings.simplefilter("ignore", DeprecationWarning)
    with tempfile.TemporaryDirectory() as folder:
        mine, other, rest_s = asyncio.run(measure(Path(folder), clips))
    rows = [mine.row("captiond"), other.row("PySceneDetect")]
    report("shots", rows, x="search", ys=["precision", "recall", "f1"])
    published = ", ".join(f"{name} {f1:.3f}" for name, f1 in TRANSNET_V2_F1.items())
    print(f"TransNet V2's published F1, on other clips: {published}.")
    share = mine.cpu_s / (mine.cpu_s + rest_s)
    print(f"Looking for shots took {share:.0%} of the sampler's processor time; the windows' frames took the rest.")
    enough = float(rows[0]["precision"]) >= LEAST_PRECISION and float(rows[0]["recall"]) >= LEAST_RECALL
    return int(not enough)


if __name__ == "__main__":
    sys.exit(main())
