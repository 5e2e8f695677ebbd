"""captiond's Video NeVA against NeMo's own files, over thousands of random inputs.

    python -m tests.neva.against_nemo --nemo DIR [--count 1000] [--seed 0]

``DIR`` is a checkout of NeMo that has NeVA (v2.0.0, or c5a5a79 for its first generation). NeMo's modules are run from
there without NeMo's dependencies; nothing of them is in this repository. The exit code is 1 where anything differs that
docs/video-neva.md does not list as a fault of NeMo.
"""

import argparse
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.neva import comparisons
from tests.neva.comparisons import Case, Tokenizers
from tests.neva.nemo_checkout import Nemo, opened
from tests.neva.random_inputs import MARKS, sentencepiece_model

_SHOWN = 3  # differences that are printed of one subject


@dataclass
class Row:
    """The comparisons of one subject."""

    compared: int = 0
    different: list[Case] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def take(self, case: Case) -> None:
        """Count a comparison."""
        self.compared += 1
        if case.ours == case.theirs:
            return
        if case.fault is not None:
            self.faults[case.fault] += 1
        else:
            self.different.append(case)


def compare(checkout: Path, count: int = 1000, seed: int = 0) -> dict[str, Row]:
    """Return the comparisons with a checkout by their subject."""
    rows: dict[str, Row] = defaultdict(Row)
    with opened(checkout) as nemo, tempfile.TemporaryDirectory() as folder:
        for case in _cases(nemo, count, seed, Path(folder)):
            rows[case.subject].take(case)
    return rows


def _cases(nemo: Nemo, count: int, seed: int, folder: Path) -> Iterator[Case]:
    rng = random.Random(seed)
    yield from comparisons.frames(nemo, rng, count)
    yield from comparisons.schedules(nemo, rng, count)
    pieces, letters = _sentencepiece(nemo, folder), _letters()
    for template in comparisons.TRAINED:
        kits = (letters,) if template in ("llama_3", "yi_34b") else (pieces, letters)
        for kit in kits:
            if kit is letters and template in ("v1", "llama_2", "mistral"):
                continue  # these compensate for SentencePiece
            yield from comparisons.training(nemo, rng, count // len(kits), kit, template)
    for template in comparisons.ASKED:
        yield from comparisons.asking(nemo, rng, count, pieces, template)
    yield from comparisons.outputs(nemo, rng, count, pieces, folder)


def _sentencepiece(nemo: Nemo, folder: Path) -> Tokenizers:
    from neva.checkpoints.tokenizer import load_tokenizer

    model = sentencepiece_model(folder / "tokenizer.model")
    ours = load_tokenizer(None, {}, str(model), None)  # type: ignore[arg-type]
    return Tokenizers("SentencePiece", nemo.tokenizer.SentencePieceTokenizer(str(model)), ours, has_dummy_prefix=True)


class _HuggingFace:
    """A tokenizer of Hugging Face under NeMo's names."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self.eos_id = tokenizer, tokenizer.eos_token_id

    def text_to_ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def token_to_id(self, token: str) -> int:
        return int(self._tokenizer.convert_tokens_to_ids(token))


def _letters() -> Tokenizers:
    from testing.tiny_models import byte_tokenizer

    marks = [*MARKS, "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    ours = byte_tokenizer([*marks, "<|im_start|>", "<|im_end|>"], "")
    return Tokenizers("bytes", _HuggingFace(ours), ours, has_dummy_prefix=False)


def table(rows: dict[str, Row]) -> str:
    """Return the comparisons as a table, with a few of the inputs that differ."""
    lines = [f"{'subject':40}{'compared':>9}{'equal':>8}{'faults':>8}{'different':>10}"]
    for subject, row in rows.items():
        faults = sum(row.faults.values())
        equal = row.compared - faults - len(row.different)
        lines.append(f"{subject:40}{row.compared:9}{equal:8}{faults:8}{len(row.different):10}")
    seen = sorted({name for row in rows.values() for name in row.faults})
    lines += ["", "Faults of NeMo that were met:", *(f"  {name}" for name in seen)] if seen else []
    for subject, row in rows.items():
        for case in row.different[:_SHOWN]:
            lines += ["", f"{subject}: {case.given!r}", f"  captiond {case.ours!r}", f"  NeMo     {case.theirs!r}"]
    return "\n".join(lines)


def main() -> int:
    """Compare, and print the table."""
    parser = argparse.ArgumentParser(description="Compare captiond's Video NeVA with NeMo's own files.")
    parser.add_argument("--nemo", type=Path, required=True, help="a checkout of NeMo")
    parser.add_argument("--count", type=int, default=1000, help="random inputs of each subject")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rows = compare(asked.nemo, asked.count, asked.seed)
    print(table(rows))
    return int(any(row.different for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
