"""The parts of a tiny Video NeVA, and checkpoints made of them, for the tests of the import."""

from pathlib import Path
from typing import Any

import torch

from testing import nemo_checkpoints as made
from testing.nemo_checkpoints import Checkpoint


class Parts:
    """A tower, a tokenizer and a language model, made once."""

    def __init__(self, parent: Path) -> None:
        self.tower_folder, self.tokenizer_folder = parent / "clip", parent / "tokenizer"
        self.tower = made.make_tower(self.tower_folder)
        self.tokenizer = made.make_tokenizer(self.tokenizer_folder)
        self.language = made.make_language(len(self.tokenizer))
        self.projector = made.make_projector()

    def config(self, **changes: Any) -> dict[str, Any]:
        return made.model_config(self.tower_folder, self.tokenizer_folder, **changes)

    def checkpoint(self, state: made.State, layout: str = "single", **changes: Any) -> Checkpoint:
        gated = changes.get("activation", "fast-swiglu") == "fast-swiglu"
        return Checkpoint(self.config(**changes), made.layout(state, layout, gated=gated))

    def expected(self, language: made.State | None = None) -> made.State:
        wanted = {f"language_model.{name}": tensor for name, tensor in (language or self.language).items()}
        names = {"0.": "linear_1.", "2.": "linear_2."}
        for name, tensor in self.projector.items():
            rest = name.removeprefix(f"{made.ADAPTER}.")
            wanted[f"multi_modal_projector.{names[rest[:2]]}{rest[2:]}"] = tensor
        return wanted | self.tower


def weights(folder: Path) -> made.State:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def assert_same(found: made.State, wanted: made.State) -> None:
    assert sorted(found) == sorted(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name
