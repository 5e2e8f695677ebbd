"""The weights of a ``.nemo``: the layouts of its files, and its tensor and pipeline ranks joined to whole tensors.

The layouts are one file, ``mp_rank_XX`` for tensor ranks, ``tp_rank_XX_pp_rank_YYY`` for tensor and pipeline ranks, and
``model_weights``, a distributed checkpoint. Files are loaded with ``weights_only``, so no code in a checkpoint runs.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.errors import ConfigurationError
from neva.checkpoints.archive import NemoArchive
from neva.checkpoints.distributed.checkpoint import is_distributed, open_distributed
from neva.checkpoints.distributed.stored import DistributedCheckpoint
from neva.checkpoints.names import LORA, Weight, parse_name
from neva.checkpoints.nemo2 import WEIGHTS as NEMO2_WEIGHTS
from neva.checkpoints.nemo2 import is_nemo2
from neva.checkpoints.stored_weights import StoredWeights

WEIGHTS = "model_weights.ckpt"
_RANKED = re.compile(r"(?:mp_rank_(\d+)|tp_rank_(\d+)_pp_rank_(\d+))/model_weights\.ckpt")
_ACROSS_ROWS = frozenset({"embed", "head", "qkv"})
_ACROSS_COLUMNS = frozenset({"o", "fc2"})

Tensors = Mapping[Weight, Any]  # a distributed checkpoint reads a tensor when it is asked for


@dataclass(frozen=True, slots=True)
class Shape:
    """The facts that joining ranks needs: the number of layers, and whether fc1 holds a gate beside its values."""

    layers: int
    gated: bool


def check_layout(archive: NemoArchive) -> None:
    """Refuse a checkpoint whose files are in a layout that is not read, or that lacks one of them."""
    if _stored(archive) is None:
        find_ranks(archive)


def _stored(archive: NemoArchive) -> DistributedCheckpoint | None:
    """Return the distributed checkpoint that an archive keeps its weights in; None where it keeps them in ranks' files.

    NeMo 2 keeps the state of its trainer in ``common.pt`` and no weights, so that file is not opened.
    """
    if is_nemo2(archive):
        return open_distributed(archive, NEMO2_WEIGHTS, common=False)
    return open_distributed(archive) if is_distributed(archive) else None


def find_ranks(archive: NemoArchive) -> list[list[str]]:
    """Return the names of the weight files, one list a pipeline rank with one name a tensor rank.

    Raises:
        ConfigurationError: the layout is another one, or a rank is missing; the message says what to do.
    """
    if WEIGHTS in archive.names:
        return [[WEIGHTS]]
    ranked = {}
    for name in archive.names:
        if (found := _RANKED.fullmatch(name)) is not None:
            ranked[(int(found[3] or 0), int(found[1] or found[2] or 0))] = name
    if not ranked:
        raise ConfigurationError(_other_layout(archive))
    pipeline, tensor = (1 + max(rank[axis] for rank in ranked) for axis in (0, 1))
    missing = [(tp, pp) for pp in range(pipeline) for tp in range(tensor) if (pp, tp) not in ranked]
    if missing or len(ranked) != pipeline * tensor:
        lacks = ", ".join(f"tensor rank {tp} of pipeline rank {pp}" for tp, pp in missing)
        raise ConfigurationError(f"{archive.path} lacks {lacks}.")
    return [[ranked[(pp, tp)] for tp in range(tensor)] for pp in range(pipeline)]


def _other_layout(archive: NemoArchive) -> str:
    """Return the message for a checkpoint without weight files of a known layout."""
    return f"{archive.path} holds no weights: no {WEIGHTS}, mp_rank_XX, tp_rank_XX_pp_rank_YYY or model_weights."


def load_rank(archive: NemoArchive, name: str) -> Tensors:
    """Return one file's tensors.

    Raises:
        ConfigurationError: the file holds anything but tensors, or weights of another model.
    """
    import torch

    try:
        # NeMo keeps byte buffers of other libraries beside the tensors; they are read here, and dropped by their names
        with archive.open(name) as file, torch.serialization.safe_globals([io.BytesIO]):
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a file that is no state of tensors may raise anything
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigurationError(f"{name} in {archive.path} is refused: {first}") from error
    if not isinstance(loaded, Mapping):
        raise ConfigurationError(f"{name} in {archive.path} holds no state.")
    loaded = loaded.get("state_dict", loaded)
    if {"model0", "model1"} & set(loaded):
        raise ConfigurationError(
            f"{name} in {archive.path} is of a virtual pipeline (model0, model1): save it again without "
            "virtual_pipeline_model_parallel_size."
        )
    tensors: dict[Weight, Any] = {}
    for key, value in loaded.items():
        weight = parse_name(str(key))
        if weight is not None and isinstance(value, torch.Tensor):
            tensors[weight] = value
    return tensors


def read_weights(archive: NemoArchive, shape: Shape) -> Tensors:
    """Return every weight of the checkpoint, with its ranks joined. The archive has to stay open."""
    if (stored := _stored(archive)) is not None:
        return StoredWeights(stored, shape.layers)
    ranks = find_ranks(archive)
    whole: dict[Weight, Any] = {}
    for number, names in enumerate(ranks):
        joined = join_tensor_ranks([load_rank(archive, name) for name in names], shape)
        whole |= _numbered(joined, number, len(ranks), shape.layers)
    return whole


def read_projector(archive: NemoArchive) -> Tensors:
    """Return the projector's weights alone, which the first rank holds whole."""
    stored = _stored(archive)
    tensors = load_rank(archive, find_ranks(archive)[0][0]) if stored is None else StoredWeights(stored, None)
    return {weight: tensors[weight] for weight in tensors if weight.part == "projector"}


def _numbered(tensors: Tensors, rank: int, ranks: int, layers: int) -> dict[Weight, Any]:
    """Return a pipeline rank's tensors with their layers' numbers in the whole model."""
    if layers % ranks:
        raise ConfigurationError(f"{layers} layers can't be shared by {ranks} pipeline ranks.")
    first = rank * layers // ranks
    return {
        weight if weight.layer is None else Weight(weight.part, weight.rest, first + weight.layer): tensor
        for weight, tensor in tensors.items()
    }


def join_tensor_ranks(ranks: Sequence[Tensors], shape: Shape) -> Tensors:
    """Return the weights of tensor ranks joined; a weight that every rank holds whole is taken from the first one."""
    first = ranks[0]
    if any(rank.keys() != first.keys() for rank in ranks):
        raise ConfigurationError("the tensor ranks hold different weights: they are not of one checkpoint.")
    if len(ranks) == 1:
        return first
    return {weight: _join(weight, [rank[weight] for rank in ranks], shape) for weight in first}


def _join(weight: Weight, pieces: list[Any], shape: Shape) -> Any:
    import torch

    if weight.part.startswith(LORA):
        return _join_adapter(weight, pieces, shape)
    if weight.part in _ACROSS_ROWS:
        return torch.cat(pieces, dim=0)
    if weight.part in _ACROSS_COLUMNS:
        return torch.cat(pieces, dim=1) if weight.rest == "weight" else pieces[0]
    if weight.part == "fc1":
        if not shape.gated:
            return torch.cat(pieces, dim=0)
        halves = [piece.chunk(2, dim=0) for piece in pieces]  # each rank holds its own gate over its own values
        return torch.cat([half[side] for side in (0, 1) for half in halves], dim=0)
    return pieces[0]


def _join_adapter(weight: Weight, pieces: list[Any], shape: Shape) -> Any:
    """Return one side of an adapter.

    On the input's side ranks share the rows, or the columns where they share the input itself; on the output's side
    they share the rows as they do those of the part.
    """
    import torch

    part = weight.part.removeprefix(LORA)
    if weight.rest == "in":
        return torch.cat(pieces, dim=1 if part in _ACROSS_COLUMNS else 0)
    if part in _ACROSS_COLUMNS:
        return torch.cat(pieces, dim=0)
    return _join(Weight(part, "weight", weight.layer), pieces, shape)
