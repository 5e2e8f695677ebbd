"""The files of a model's weights, as far as their heads and lengths tell: a damaged one is named before the start.

Reading the heads of a hundred files takes a fraction of a second; finding the same in vLLM's processes takes minutes.
"""

import json
import os
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from connectors.errors import ConfigurationError

_LENGTH_BYTES = 8  # of the number that a safetensors file begins with
_LONGEST_HEAD = 100_000_000  # the format's own bound
_METADATA = "__metadata__"
_LFS_POINTER = b"version https://git-lfs"
_PICKLE = b"\x80"  # what a file of torch.save begins with where it is no zip archive


_Found = TypeVar("_Found")


class _Damaged(Exception):
    """A file of weights that can't be what it should be; the message says why."""


def check_weights(folder: Path) -> None:
    """Refuse a model whose weights, those that vLLM would read, are damaged or not all there.

    Pickles count only where there are no safetensors, and where there is an index, the files that it names.

    Raises:
        ConfigurationError: naming the file.
    """
    tensors = sorted(folder.glob("*.safetensors"))
    index = folder / ("model.safetensors.index.json" if tensors else "pytorch_model.bin.index.json")
    files = _shards(index) if index.is_file() else tensors or sorted(folder.glob("pytorch_model*.bin"))
    for path in files:
        _checked(path, _check_safetensors if path.suffix == ".safetensors" else _check_pickle)


def stored_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor in a folder's safetensors, by the heads of the files."""
    index = folder / "model.safetensors.index.json"
    files = _shards(index) if index.is_file() else sorted(folder.glob("*.safetensors"))
    heads = [_checked(path, _head)[0] for path in files]
    return {
        name: tuple(entry["shape"])
        for head in heads
        for name, entry in head.items()
        if isinstance(entry, dict) and isinstance(entry.get("shape"), list)
    }


def stored_dtype(folder: Path) -> str | None:
    """Return the type of the first tensor in a folder's weights, by the head of the file; None where there is none."""
    for path in sorted(folder.glob("*.safetensors")):
        head, _ = _checked(path, _head)
        return next((str(entry["dtype"]) for entry in _entries(head)), None)
    return None


def _checked(path: Path, read: Callable[[Path], _Found]) -> _Found:
    """Return what ``read`` finds in a file, and say which file is damaged."""
    try:
        return read(path)
    except _Damaged as damage:
        message = f"its weights are damaged: {path.name} {damage}; fetch it again"
        raise ConfigurationError(message, path="engine.model") from damage
    except OSError as error:
        message = f"its weights can't be read: {path.name}: {error.strerror}"
        raise ConfigurationError(message, path="engine.model") from error


def _head(path: Path) -> tuple[Mapping[str, Any], int]:
    """Return the head of a safetensors file, its tensors by name, and where it ends."""
    with path.open("rb") as file:
        start = file.read(len(_LFS_POINTER))
        if start == _LFS_POINTER:
            raise _Damaged("is a pointer of Git LFS instead of the file (git lfs pull)")
        if len(start) < _LENGTH_BYTES:
            raise _Damaged(f"has {len(start)} bytes")
        (length,) = struct.unpack("<Q", start[:_LENGTH_BYTES])
        left = os.fstat(file.fileno()).st_size - _LENGTH_BYTES
        if length > min(left, _LONGEST_HEAD):
            raise _Damaged(f"says that its head has {length:,} bytes, and {left:,} follow")
        file.seek(_LENGTH_BYTES)
        try:
            head = json.loads(file.read(length))
        except ValueError as error:
            raise _Damaged("has a head that is not JSON") from error
    if not isinstance(head, dict):
        raise _Damaged("has a head that names no tensors")
    return head, _LENGTH_BYTES + length


def _check_safetensors(path: Path) -> None:
    """Compare where a file's last tensor ends with its length."""
    head, head_end = _head(path)
    ends = [entry["data_offsets"][1] for entry in _entries(head)]
    if len(ends) < len(head.keys() - {_METADATA}):
        raise _Damaged("has a head that describes no tensors")
    wanted, there = head_end + max(ends, default=0), path.stat().st_size
    if there != wanted:
        raise _Damaged(f"has {there:,} bytes instead of {wanted:,}")


def _entries(head: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the tensors of a head that are described as the format wants it."""
    for name, entry in head.items():
        if name == _METADATA or not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
            continue
        offsets = entry.get("data_offsets")
        if isinstance(offsets, list) and len(offsets) == 2 and all(isinstance(at, int) for at in offsets):
            yield entry


def _check_pickle(path: Path) -> None:
    """Look whether a file is a whole archive, or the pickle that torch wrote before it wrote archives."""
    with path.open("rb") as file:
        start = file.read(len(_LFS_POINTER))
    if start == _LFS_POINTER:
        raise _Damaged("is a pointer of Git LFS instead of the file (git lfs pull)")
    if start[:1] != _PICKLE and not zipfile.is_zipfile(path):
        raise _Damaged("is neither a whole archive nor a pickle of torch")


def _shards(index: Path) -> list[Path]:
    """Return the files that an index names; all of them are there."""
    try:
        named = sorted({str(name) for name in json.loads(index.read_text())["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"its weights can't be found: {index.name} is no index of them; fetch it again"
        raise ConfigurationError(message, path="engine.model") from error
    if missing := [name for name in named if not (index.parent / name).is_file()]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        message = f"its weights are not all there: {index.name} names {missing[0]}{more}; fetch its files again"
        raise ConfigurationError(message, path="engine.model")
    return [index.parent / name for name in named]
