"""The accuracy of the bundled model: held-out clips captioned right to the word, through the whole daemon.

`python -m bench.training.accuracy --clips 500`: draws and encodes clips of unseen seeds, drops them into a
folder, lets the daemon caption them with vLLM, and compares each caption with what was drawn. Exits 1 below 98 %.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from neva.shapes.scenes import Scene, caption_of, random_scene, write_clip

FIRST_SEED = 15_000_000  # held out
BAR = 0.98


def parts(caption: str) -> tuple[str, str, str]:
    """Return a caption's colour, shape and motion."""
    words = caption.rstrip(".").split()
    return (words[1], words[2], " ".join(words[3:])) if len(words) > 3 else ("", "", "")


def main() -> int:
    """Measure, print, and say whether the bar is reached."""
    parser = argparse.ArgumentParser(prog="python -m bench.training.accuracy", description=__doc__)
    parser.add_argument("--clips", type=int, default=500)
    count = parser.parse_args().clips
    scenes: dict[str, Scene] = {f"{n:05d}.mp4": random_scene(FIRST_SEED + n) for n in range(count)}
    with tempfile.TemporaryDirectory(prefix="captiond-accuracy-") as name:
        folder = Path(name)
        (folder / "inbox").mkdir()
        for clip, scene in scenes.items():
            write_clip(folder / "inbox" / clip, scene)
        config = folder / "captiond.yaml"
        config.write_text(
            "sources:\n  inbox: {kind: folder, path: inbox, settle_s: 0}\nsink: {kind: folder, path: captions}\n"
            "engine: {model: bundled, dtype: float32, args: {enforce-eager: true}}\n"
            "generation: {max_tokens: 32}\nhttp: null\nlog: {level: warning}\n"
        )
        begun = time.monotonic()
        subprocess.run([sys.executable, "-m", "daemon", "run", "--once", "-c", str(config)], check=True)
        took_s = time.monotonic() - begun
        right: Counter[str] = Counter()
        for clip, scene in scenes.items():
            lines = (folder / "captions" / "inbox" / f"{clip}.jsonl").read_text().splitlines()
            said, true = json.loads(lines[0])["text"], caption_of(scene)
            right["whole caption"] += said == true and len(lines) == 1
            for part, mine, theirs in zip(("colour", "shape", "motion"), parts(said), parts(true), strict=True):
                right[part] += mine == theirs
    print(f"{count} held-out clips through the daemon in {took_s:.0f} s, the model's start included.")
    for part in ("colour", "shape", "motion", "whole caption"):
        print(f"  {part:<14} {100 * right[part] / count:6.2f} % right")
    return 0 if right["whole caption"] >= BAR * count else 1


if __name__ == "__main__":
    sys.exit(main())
