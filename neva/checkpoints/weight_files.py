"""Weights in a folder's safetensors, written one file at a time, and gathered where several processes share them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE_BYTES = 5_000_000_000  # Hugging Face's own size; one file's tensors are in memory at once


def write_weights(folder: Path | None, state: Mapping[str, Any], file_bytes: int = FILE_BYTES) -> None:
    """Write ``state`` into ``folder`` as safetensors, with an index where they are several files.

    All processes that share the weights call this with the same names, all but one without a folder: these only give
    their shares, one tensor at a time.
    """
    import torch
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file

    shapes = {name: torch.empty(tensor.shape, dtype=tensor.dtype, device="meta") for name, tensor in state.items()}
    plan = split_torch_state_dict_into_shards(shapes, max_shard_size=file_bytes)
    for file, names in plan.filename_to_tensors.items():
        held = {}
        for name in names:
            whole = gathered(state[name])
            if folder is not None:
                held[name] = with_own_memory(whole.cpu())
        if folder is not None:
            save_file(held, folder / file, metadata={"format": "pt"})
    if folder is not None and plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def gathered(tensor: Any) -> Any:
    """Return a tensor whole; all processes that share it call this."""
    from torch.distributed.tensor import DTensor

    detached = tensor.detach()
    return detached.full_tensor() if isinstance(detached, DTensor) else detached


def with_own_memory(tensor: Any) -> Any:
    """Return a tensor that shares its memory with no other; a part of a larger one would be written with the whole."""
    whole = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
    return tensor if whole else tensor.clone().contiguous()
