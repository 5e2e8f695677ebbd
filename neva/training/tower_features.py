"""The features that a vision tower computes, and a cache of them: those of a frozen tower never change."""

from pathlib import Path
from typing import Any

import torch

_READY, _UNREADABLE = 1, 2


def tower_features(llava: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Return the features that the projector gets of ``pixels[N, 3, S, S]``: ``[N, patches, width]``."""
    config = llava.config
    states = llava.model.vision_tower(pixels, output_hidden_states=True).hidden_states
    seen: torch.Tensor = states[config.vision_feature_layer]
    return seen[:, 1:] if config.vision_feature_select_strategy == "default" else seen


class FeatureCache:
    """The features of ``count`` clips, each of ``shape``, in one file that all processes map.

    ``made_of`` names everything that the features depend on; a file made of anything else is replaced. A second file
    holds a byte for each clip that says whether its features are ready, so an interrupted run can resume.
    """

    def __init__(self, path: Path, count: int, shape: tuple[int, ...], made_of: str) -> None:
        self._path, self._count, self._shape = path, count, shape
        self._ready_path = path.with_suffix(".ready")
        self._made_of = f"{made_of} {count} {shape}".encode()
        self._size = count * torch.Size(shape).numel()

    def prepare(self) -> None:
        """Create the files unless they hold the same features already; only one process may do so."""
        name = self._path.with_suffix(".txt")
        if name.is_file() and name.read_bytes() == self._made_of and self._path.is_file():
            return
        name.unlink(missing_ok=True)
        for path, size_bytes in ((self._path, 4 * self._size), (self._ready_path, self._count)):
            with path.open("wb") as file:
                file.truncate(size_bytes)
        name.write_bytes(self._made_of)

    def open(self) -> None:
        """Map the files."""
        features = torch.from_file(str(self._path), shared=True, size=self._size, dtype=torch.float32)
        self._features = features.view(self._count, *self._shape)
        self._ready = torch.from_file(str(self._ready_path), shared=True, size=self._count, dtype=torch.uint8)

    def missing(self) -> list[int]:
        """Return the clips that have no features yet."""
        return [int(number) for number in torch.nonzero(self._ready == 0).flatten()]

    def write(self, number: int, features: torch.Tensor | None) -> None:
        """Store a clip's features; None for a clip that can't be read."""
        if features is not None:
            self._features[number] = features.float().cpu()
        self._ready[number] = _READY if features is not None else _UNREADABLE

    def read(self, number: int) -> torch.Tensor | None:
        """Return a clip's features; None for a clip that could not be read."""
        return self._features[number] if self._ready[number] == _READY else None
