"""The share of right statements that the bundled model makes, by kind, on drawn clips and on real ones.

`python -m bench.training.statements` scores the drawn clips of `make model` (over photographs that training never
saw) and the windows of the clips in `build/clips`, whose truth OpenCV measures. `--model FOLDER` takes another model.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neva.scenery.dataset import load_or_make
from neva.scenery.light import measure
from neva.scenery.real_clips import FRAMES, Window, windows_of
from neva.scenery.scoring import KINDS, caption_frames, right_statements, shares
from neva.scenery.statements import statements_of
from neva.shapes.batches import normalised
from testing.repository import ROOT

BARS = {"drawn": 0.9, "real": 0.8}


def main() -> int:
    """Score, print a table, and say whether the bars are reached."""
    parser = argparse.ArgumentParser(prog="python -m bench.training.statements", description=__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / "neva" / "bundled")
    parser.add_argument("--photographs", type=Path, default=ROOT / "build" / "photographs")
    parser.add_argument("--scenes", type=Path, default=ROOT / "build" / "demo-scenes" / "scenes-held-out.npz")
    parser.add_argument("--drawn", type=int, default=500, help="drawn clips")
    parser.add_argument("--real", type=Path, default=ROOT / "build" / "clips", help="the folder of real clips")
    parser.add_argument("--verbose", action="store_true", help="print every sentence about a real window")
    asked = parser.parse_args()
    ask = _Asker(asked.model)
    clips = load_or_make(asked.scenes, asked.photographs, asked.drawn, FRAMES, 2, held_out=True)
    drawn = []
    confused: Counter[str] = Counter()
    for i, answer in enumerate(ask(clips.frames[: asked.drawn])):
        said, true = statements_of(answer), clips.statements(i)
        drawn.append(right_statements(said, true, measure(clips.frames[i])))
        for kind in ("camera", "movement", "transition"):
            if drawn[-1].get(kind) is False:
                confused[f"{kind}: {getattr(true, kind)} -> {getattr(said, kind) if said else answer}"] += 1
    windows = [one for path in sorted(asked.real.iterdir()) for one in windows_of(path)]
    real = _score_windows(ask, windows, verbose=asked.verbose)
    table = {"drawn": shares(drawn), "real": shares(real)}
    counts = {"drawn": drawn, "real": real}
    for name, row in table.items():
        print(f"{len(counts[name])} {name} clips")
        for kind in KINDS:
            made = sum(kind in one for one in counts[name])
            print(f"  {kind:<11} {100 * row.get(kind, 0):6.2f} % of {made}")
    print(json.dumps(confused.most_common(12), indent=1))
    return 0 if all(share >= BARS[name] for name, row in table.items() for share in row.values()) else 1


def _score_windows(ask: "_Asker", windows: list[Window], *, verbose: bool) -> list[dict[str, bool]]:
    rows = []
    for one, answer in zip(windows, ask(np.stack([one.frames for one in windows])), strict=True):
        seen = measure(one.frames)
        row = right_statements(statements_of(answer), one.truth.statements(), seen)
        rows.append({kind: right for kind, right in row.items() if kind not in one.truth.doubtful})
        if verbose:
            print(f"{one.name}: {answer}\n    {one.truth} {seen.light} {seen.colours}")
    return rows


class _Asker:
    """The model, asked as the daemon asks it."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoProcessor, LlavaForConditionalGeneration

        self._llava = LlavaForConditionalGeneration.from_pretrained(folder).eval()
        processor = AutoProcessor.from_pretrained(folder)
        self._tokenizer, images = processor.tokenizer, processor.image_processor
        self._mean, self._deviation = (torch.tensor(numbers) * 255 for numbers in (images.image_mean, images.image_std))

    def __call__(self, frames: Any) -> list[str]:
        """Return the answers about ``uint8[N, F, S, S, 3]``."""
        patches = self._llava.config.image_seq_length

        def pixels(shown: Any) -> torch.Tensor:
            return normalised(shown.reshape(-1, *shown.shape[-3:]), self._mean, self._deviation)

        return caption_frames(self._llava, self._tokenizer, pixels, frames, patches)


if __name__ == "__main__":
    sys.exit(main())
