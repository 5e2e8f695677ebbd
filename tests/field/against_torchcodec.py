"""A comparison with torchcodec's own test resources, from a checkout of https://github.com/meta-pytorch/torchcodec.

    python -m tests.field.against_torchcodec --resources CHECKOUT/test/resources

``CLIP.streamN.all_frames_info.json`` has the time of every frame of a stream, ``CLIP.streamN.frameNNNNNN.pt`` a frame's
pixels. A clip is right when its times are those of one of its streams and the frames that are there are equal to it.
"""

import argparse
import asyncio
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from daemon.decoding.sampler import Sampler
from daemon.windows import FrameSet
from tests.corpus.sampling import Outcome, running, sample
from tests.field.reading import EVERY_FRAME, SECOND

CLOSE_NS = 1_000_000  # their times are whole microseconds
CLOSE_LEVELS = 3.0  # on average, of 255: both scale colour planes, by different filters
_TIMES = re.compile(r"(?P<clip>.+\.(?:mp4|mkv|webm|avi))\.stream(?P<stream>\d+)\.all_frames_info\.json")


@dataclass(frozen=True)
class Known:
    """A stream as its JSON says it."""

    path: Path
    stream: int
    times_ns: tuple[int, ...]

    def frames(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield the index and the pixels of the frames that lie beside the clip."""
        import torch

        for path in sorted(self.path.parent.glob(f"{self.path.name}.stream{self.stream}.frame??????.pt")):
            pixels = torch.load(path, weights_only=True).numpy()
            yield int(path.name[-9:-3]), pixels if pixels.shape[2] == 3 else pixels.transpose(1, 2, 0)


def known_in(resources: Path) -> dict[Path, list[Known]]:
    """Return the clips that have times, each with its streams."""
    found: dict[Path, list[Known]] = {}
    for path in sorted(resources.glob("*.all_frames_info.json")):
        match = _TIMES.fullmatch(path.name)
        if match is None or not (resources / match["clip"]).exists():
            continue
        times = [round(float(frame["pts_time"]) * 1e9) for frame in json.loads(path.read_text())]
        clip = resources / match["clip"]
        found.setdefault(clip, []).append(Known(clip, int(match["stream"]), tuple(times)))
    return found


async def faults(sampler: Sampler, clip: Path, streams: list[Known]) -> list[str]:
    """Return what differs between a clip as it is read and as its JSON says, nothing where all is right."""
    outcome = await sample(sampler, clip, SECOND, EVERY_FRAME)
    if outcome.plan is None or outcome.fault is not None:
        return [f"ends with {outcome.fault}"]
    times = outcome.plan.pts_ns
    same = [known for known in streams if _is_close(times, known.times_ns)]
    if not same:
        return [f"{len(times)} frames from {times[:4].tolist()} are no stream of {[len(k.times_ns) for k in streams]}"]
    return _different_frames(outcome, same[0])


def _is_close(times: NDArray[np.int64], right: tuple[int, ...]) -> bool:
    if len(times) != len(right):
        return False
    return bool(np.abs(times - (np.array(right, np.int64) - right[0])).max() <= CLOSE_NS)


def _different_frames(outcome: Outcome, known: Known) -> list[str]:
    assert outcome.plan is not None
    by_time = {
        time: frame
        for window in outcome.windows
        if isinstance(window, FrameSet)
        for time, frame in zip(window.pts_ns, window.frames, strict=True)
    }
    found = []
    for index, right in known.frames():
        ours = by_time[int(outcome.plan.pts_ns[index])]
        if ours.shape != right.shape:
            found.append(f"frame {index}: {ours.shape} instead of {right.shape}")
        elif (apart := float(np.abs(ours.astype(np.int16) - right).mean())) > CLOSE_LEVELS:
            found.append(f"frame {index}: {apart:.1f} levels apart")
    return found


async def run(resources: Path) -> int:
    """Compare all and print a line each; 1 where something differs."""
    different = 0
    async with running() as sampler:
        for clip, streams in known_in(resources).items():
            found = await faults(sampler, clip, streams)
            different += bool(found)
            compared = sum(1 for known in streams for _ in known.frames())
            print(f"{clip.name}: {'; '.join(found) or f'right, {compared} frames lie beside it'}")
    return int(different > 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--resources", type=Path, required=True, help="test/resources of a checkout of torchcodec")
    return asyncio.run(run(parser.parse_args().resources))


if __name__ == "__main__":
    sys.exit(main())
