"""Tensors as a distributed checkpoint stores them: in pieces that cover each of them exactly once."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.errors import ConfigurationError

ITEM_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}
ITEM_BYTES |= {"int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1}  # counters and the like

_MAX_DIMS = 8
_MAX_ELEMENTS = 2**48
_MAX_CELLS = 2**20


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor that can be read; ``dtype`` is torch's name for it, without ``torch.``."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def size_bytes(self) -> int:
        """The size of the whole tensor in memory."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a tensor: where it begins in the tensor, its shape, and where it is stored."""

    offsets: tuple[int, ...]
    shape: tuple[int, ...]
    where: Any

    @property
    def slices(self) -> tuple[slice, ...]:
        """The part of the tensor that the piece fills."""
        return tuple(slice(begin, begin + length) for begin, length in zip(self.offsets, self.shape, strict=True))


class DamagedError(Exception):
    """A part of a checkpoint that can't be what Megatron wrote; the message begins with what it is about."""


def checked_shape(shape: Sequence[Any], *, about: str) -> tuple[int, ...]:
    """Return a shape that a tensor can have.

    Raises:
        DamagedError: it is none; the message begins with ``about``.
    """
    if not all(type(length) is int for length in shape):
        raise DamagedError(f"{about} has a shape that is not of numbers")
    if len(shape) > _MAX_DIMS or any(length < 0 for length in shape) or math.prod(shape) > _MAX_ELEMENTS:
        raise DamagedError(f"{about} has a shape that no tensor has")
    return tuple(shape)


def check_cover(whole: tuple[int, ...], pieces: Sequence[Piece], *, about: str) -> None:
    """Refuse pieces that overlap, leave a hole or lie outside of their tensor.

    The borders of all pieces cut the tensor into cells; each cell belongs to exactly one piece.
    """
    import numpy as np

    for piece in pieces:
        if len(piece.shape) != len(whole) or len(piece.offsets) != len(whole):
            raise DamagedError(f"{about} has a piece with another number of dimensions")
        if any(
            begin < 0 or begin + length > total
            for begin, length, total in zip(piece.offsets, piece.shape, whole, strict=True)
        ):
            raise DamagedError(f"{about} has a piece that lies outside of it")
    filled = [piece for piece in pieces if math.prod(piece.shape)]
    borders = [
        sorted({0, total} | {edge for piece in filled for edge in (piece.slices[axis].start, piece.slices[axis].stop)})
        for axis, total in enumerate(whole)
    ]
    cells = [max(len(edges) - 1, 0) for edges in borders]
    if math.prod(cells) > _MAX_CELLS:
        raise DamagedError(f"{about} is cut into pieces that form no grid")
    places = [{edge: index for index, edge in enumerate(edges)} for edges in borders]
    covered = np.zeros(cells, dtype=np.uint16)
    for piece in filled:
        covered[
            tuple(slice(place[part.start], place[part.stop]) for place, part in zip(places, piece.slices, strict=True))
        ] += 1
    if not (covered == 1).all():
        raise DamagedError(f"{about} is not covered by its pieces exactly once")


def refused(path: Any, member: str, reason: str) -> ConfigurationError:
    """Return the error for a member of a checkpoint that is not read."""
    return ConfigurationError(f"{member} in {path} is refused: {reason}.")


class DistributedCheckpoint(ABC):
    """The tensors of a checkpoint. The archive that it was opened in has to stay open."""

    @property
    @abstractmethod
    def tensors(self) -> Mapping[str, StoredTensor]:
        """The tensors by the names that Megatron gave them, with their shapes and types."""

    @abstractmethod
    def read(self, name: str, row: int | None = None) -> Any:
        """Return a tensor, or with ``row`` its part of that index on dimension 0, without the dimension.

        Raises:
            ConfigurationError: what is stored is no such tensor; the message names the file and the member.
        """
