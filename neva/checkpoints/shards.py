"""Weight files of Hugging Face's layout, written while tensors come in, so that one file's are in memory at a time."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MAX_SHARD_BYTES = 5 * 10**9


def write_shards(folder: Path, tensors: Iterable[tuple[str, Any]], max_bytes: int = MAX_SHARD_BYTES) -> int:
    """Write tensors by their names into ``folder``; return how many there were.

    No tensor shares its memory with another. A single file has no index, as Hugging Face's own have none.
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
        if waiting and size + tensor.nbytes > max_bytes:
            flush()
            size = 0
        waiting[name] = tensor.contiguous()
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
