"""Weights in a folder's safetensors, written one file at a time, and gathered where several processes share them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FILE_BYTES = 5_000_000_000  # Hugging Face's own size; one file's tensors are in memory at once


def write_weights(folder: Path | None, state: Mapping[str, Any], file_bytes: int = FILE_BYTES) -> None:
    """Write ``state`` into ``folder`` as safetensors, with an index where they are several files.

    All processes that share the weights call this with the same names, all but one without a folder: these only give
    their shares, one tensor at a time.
    """
    whole = ((name, gathered(state[name])) for name in state)
    if folder is not None:
        write_tensors(folder, ((name, tensor.cpu()) for name, tensor in whole), file_bytes)
        return
    for _ in whole:
        pass


def write_tensors(folder: Path, tensors: Iterable[tuple[str, Any]], file_bytes: int = FILE_BYTES) -> int:
    """Write tensors by their names into ``folder`` while they come in; return how many there were.

    Tensors may share their memory. A single file has no index, as Hugging Face's own have none.
    """
    from safetensors.torch import save_file

    shards: list[list[str]] = []
    waiting: dict[str, Any] = {}
    total = size = 0

    def flush() -> None:
        save_file(waiting, folder / _partial(len(shards)), metadata={"format": "pt"})
        shards.append(list(waiting))
        waiting.clear()

    for name, tensor in tensors:
        if waiting and size + tensor.nbytes > file_bytes:
            flush()
            size = 0
        waiting[name] = _with_own_memory(tensor)
        size += tensor.nbytes
        total += tensor.nbytes
        del tensor  # the next one is read while this name still holds the last
    flush()
    _name_shards(folder, shards, total)
    return sum(len(names) for names in shards)


def _partial(number: int) -> str:
    return f".shard-{number}"


def _name_shards(folder: Path, shards: list[list[str]], total_bytes: int) -> None:
    """Give the files their names, which say how many there are."""
    if len(shards) == 1:
        (folder / _partial(0)).rename(folder / "model.safetensors")
        return
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards):
        file = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        (folder / _partial(number)).rename(folder / file)
        weight_map |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": total_bytes}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def gathered(tensor: Any) -> Any:
    """Return a tensor whole; all processes that share it call this."""
    from torch.distributed.tensor import DTensor

    detached = tensor.detach()
    return detached.full_tensor() if isinstance(detached, DTensor) else detached


def _with_own_memory(tensor: Any) -> Any:
    """Return a tensor that shares its memory with no other; a part of a larger one would be written with the whole."""
    whole = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
    return tensor if whole else tensor.clone().contiguous()
