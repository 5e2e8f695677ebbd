"""The weights in a distributed checkpoint of Megatron as a mapping that reads each of them when it is asked for it.

Megatron stacks the parts of all layers on dimension 0 of one tensor, or gives each layer's part a name of its own; the
two halves of fc1 are one tensor or two.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from connectors.errors import ConfigurationError
from neva.checkpoints.distributed.stored import DistributedCheckpoint
from neva.checkpoints.names import Weight, parse_name

_STACKED = re.compile(r"\b(decoder|encoder)\.layers\.(?!\d)")
_HALVES = {"_w": 0, "_v": 1}  # of fc1, where Megatron keeps the gate and the values apart


class StoredWeights(Mapping[Weight, Any]):
    """Weights by their parts of the model. Nothing is kept: a weight that is asked for twice is read twice."""

    def __init__(self, checkpoint: DistributedCheckpoint, layers: int | None) -> None:
        """Find the weights of a model of so many ``layers``, or with None whatever their number is.

        Raises:
            ConfigurationError: the checkpoint holds weights of another model.
        """
        self._checkpoint = checkpoint
        self._found: dict[Weight, dict[int, tuple[str, int | None]]] = {}
        for name in checkpoint.tensors:
            if _STACKED.search(name) is None:
                self._add(name, name, None)
                continue
            if self._skipped(name):
                continue
            shape = checkpoint.tensors[name].shape
            if not shape or layers not in (None, shape[0]):
                raise ConfigurationError(
                    f"the checkpoint holds {name} of {shape[0] if shape else 0} layers, its configuration says {layers}"
                )
            for layer in range(shape[0]):
                self._add(name, _STACKED.sub(rf"\1.layers.{layer}.", name), layer)
        halved = next((weight for weight, parts in self._found.items() if len(parts) != 1 + max(parts)), None)
        if halved is not None:
            raise ConfigurationError(f"the checkpoint holds one half of {halved.part} of layer {halved.layer} alone")

    @staticmethod
    def _skipped(name: str) -> bool:
        return parse_name(_STACKED.sub(r"\1.layers.0.", name.removesuffix("_w").removesuffix("_v"))) is None

    def _add(self, stored: str, name: str, row: int | None) -> None:
        half = _HALVES.get(name[-2:], 0)
        weight = parse_name(name[:-2] if name[-2:] in _HALVES else name)
        if weight is not None:
            self._found.setdefault(weight, {})[half] = (stored, row)

    def __getitem__(self, weight: Weight) -> Any:
        import torch

        halves = [self._checkpoint.read(*place) for _, place in sorted(self._found[weight].items())]
        return halves[0] if len(halves) == 1 else torch.cat(halves, dim=0)

    def __iter__(self) -> Iterator[Weight]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)
