"""A zarr checkpoint of Megatron: a folder for each tensor, with ``.zarray`` and its chunks as plain bytes.

Megatron writes neither compressed nor filtered chunks, so these are read as they lie there, and any other array is
refused: what decodes a filter is not run.
"""

import json
import math
from collections.abc import Mapping
from itertools import product
from typing import Any

from neva.checkpoints.archive import NemoArchive
from neva.checkpoints.distributed.common_file import read_common
from neva.checkpoints.distributed.stored import (
    ITEM_BYTES,
    DamagedError,
    DistributedCheckpoint,
    StoredTensor,
    checked_shape,
    refused,
)

ARRAY = ".zarray"
# numpy has no bfloat16: Megatron writes the name, or the bytes as numbers of the same size
_TYPES = {"bfloat16": "bfloat16", "<V2": "bfloat16", "|V2": "bfloat16", "<i2": "bfloat16"}
_TYPES |= {"<f2": "float16", "<f4": "float32", "<f8": "float64"}


class ZarrLayout(DistributedCheckpoint):
    """The tensors of a folder that Megatron wrote with its zarr strategy."""

    def __init__(self, archive: NemoArchive, folder: str, *, common: bool) -> None:
        self._archive, self._folder = archive, folder
        self._common = read_common(archive, folder) if common else {}
        self._arrays: dict[str, tuple[StoredTensor, tuple[int, ...], str]] = {}
        for member in sorted(archive.names):
            if member.startswith(f"{folder}/") and member.endswith(f"/{ARRAY}"):
                name = member.removeprefix(f"{folder}/").removesuffix(f"/{ARRAY}")
                try:
                    self._arrays[name] = _read_array(archive.read(member))
                    self._check_chunks(name)
                except DamagedError as error:
                    raise refused(archive.path, member, str(error)) from error
        self._tensors = {name: tensor for name, (tensor, _, _) in self._arrays.items()}
        for name, tensor in self._common.items():
            self._tensors.setdefault(name, StoredTensor(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")))

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        return self._tensors

    def _check_chunks(self, name: str) -> None:
        """Refuse an array unless every chunk of it is there in its size."""
        tensor, chunk, separator = self._arrays[name]
        size = math.prod(chunk) * ITEM_BYTES[tensor.dtype]
        count = math.prod(-(-total // length) for total, length in zip(tensor.shape, chunk, strict=True))
        if count > len(self._archive.names):
            raise DamagedError(f"it says that it has {count:,} chunks, more than there are files")
        for index in self._grid(name):
            member = self._chunk(name, index, separator)
            if member not in self._archive.names:
                raise DamagedError(f"its chunk {member.rpartition('/')[2]} is not there")
            if self._archive.size_bytes(member) != size:
                raise DamagedError(
                    f"its chunk {member.rpartition('/')[2]} has not the {size:,} bytes that it has to have"
                )

    def _grid(self, name: str) -> Any:
        tensor, chunk, _ = self._arrays[name]
        return product(*(range(-(-total // length)) for total, length in zip(tensor.shape, chunk, strict=True)))

    def _chunk(self, name: str, index: tuple[int, ...], separator: str) -> str:
        return f"{self._folder}/{name}/{separator.join(map(str, index)) or '0'}"

    def read(self, name: str, row: int | None = None) -> Any:
        import torch

        if name not in self._arrays:
            whole = self._common[name]
            return whole if row is None else whole[row]
        tensor, chunk, separator = self._arrays[name]
        rows = tensor.shape if row is None else (1, *tensor.shape[1:])
        found = torch.empty(rows, dtype=getattr(torch, tensor.dtype))
        for index in self._grid(name):
            first = index[0] * chunk[0] if index else 0
            if row is not None and not first <= row < first + chunk[0]:
                continue
            piece = self._read_chunk(self._chunk(name, index, separator), tensor.dtype).reshape(chunk)
            begins = [place * length for place, length in zip(index, chunk, strict=True)]
            if row is not None:
                piece, begins[0] = piece[row - first : row - first + 1], 0
            slices = tuple(slice(begin, begin + length) for begin, length in zip(begins, piece.shape, strict=True))
            target = found[slices]
            target.copy_(piece[tuple(slice(length) for length in target.shape)])  # the last chunks are padded
        return found if row is None else found[0]

    def _read_chunk(self, member: str, dtype: str) -> Any:
        import torch

        with self._archive.open(member) as file:
            return torch.frombuffer(bytearray(file.read()), dtype=getattr(torch, dtype))


def _read_array(data: bytes) -> tuple[StoredTensor, tuple[int, ...], str]:
    """Return the tensor that a ``.zarray`` describes, its chunks' shape, and what stands between their numbers."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedError("it is no JSON") from error
    if not isinstance(values, dict) or values.get("zarr_format") != 2:
        raise DamagedError("it is not of zarr's second format")
    if values.get("compressor") is not None or values.get("filters"):
        raise DamagedError("its chunks are compressed or filtered, which Megatron's are not: save them plainly")
    dtype, separator = values.get("dtype"), values.get("dimension_separator", ".")
    if not isinstance(dtype, str) or dtype not in _TYPES:
        raise DamagedError(f"its type {str(dtype)[:40]!r} is none of {', '.join(_TYPES)}")
    if values.get("order", "C") != "C" or separator not in (".", "/"):
        raise DamagedError("its chunks lie in another order than Megatron's")
    shape, chunk = values.get("shape"), values.get("chunks")
    if not isinstance(shape, list) or not isinstance(chunk, list) or len(shape) != len(chunk):
        raise DamagedError("it has no shape of its own and of its chunks")
    shape, chunk = checked_shape(shape, about="it"), checked_shape(chunk, about="its chunk")
    if not all(chunk):
        raise DamagedError("its chunks are empty")
    return StoredTensor(shape, _TYPES[dtype]), chunk, separator
