"""``.metadata`` of a torch_dist checkpoint: the tensors, and where the pieces of each lie.

It is a pickle of torch's own metadata classes, which torch loads without a guard. Here it is read as data, and these
names are all that it may hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neva.checkpoints.distributed.inert_pickle import Name, Record, UnsafePickleError, read_pickle
from neva.checkpoints.distributed.stored import (
    ITEM_BYTES,
    DamagedError,
    Piece,
    StoredTensor,
    check_cover,
    checked_shape,
)

_CHECKPOINT = "torch.distributed.checkpoint"
_SHARDED = "torch.distributed._shard.sharded_tensor.metadata"  # where torch before 2.3 had two of its classes
_MEGATRON = "megatron.core.dist_checkpointing.strategies.torch"
_METADATA = (f"{_CHECKPOINT}.metadata.Metadata", f"{_MEGATRON}.MCoreMetadata")
_TENSOR = f"{_CHECKPOINT}.metadata.TensorStorageMetadata"
_BYTES = f"{_CHECKPOINT}.metadata.BytesStorageMetadata"
_CHUNK = f"{_CHECKPOINT}.metadata.ChunkStorageMetadata"
_PROPERTIES = (f"{_CHECKPOINT}.metadata.TensorProperties", f"{_SHARDED}.TensorProperties")
_INDEX = f"{_CHECKPOINT}.metadata.MetadataIndex"
_STORAGE = f"{_CHECKPOINT}.filesystem._StorageInfo"
_SIZE = "torch.Size"
ALLOWED = frozenset(
    {
        *(_TENSOR, _BYTES, _CHUNK, _INDEX, _STORAGE, _SIZE, *_METADATA, *_PROPERTIES),
        f"{_CHECKPOINT}.metadata._MEM_FORMAT_ENCODING",
        f"{_SHARDED}.MEM_FORMAT_ENCODING",
        f"{_CHECKPOINT}.metadata.StorageMeta",
        # Megatron keeps the plan of each rank beside them, which is of no use here
        *(f"{_CHECKPOINT}.planner.{name}" for name in ("SavePlan", "WriteItem", "WriteItemType", "TensorWriteData")),
        f"{_CHECKPOINT}.planner.BytesIOWriteData",
        f"{_CHECKPOINT}.filesystem._StoragePrefix",
        f"{_MEGATRON}.MCoreSavePlan",
        "torch.serialization._get_layout",
        "pathlib.PosixPath",  # in StorageMeta: where the checkpoint was written
        *(f"torch.{dtype}" for dtype in ITEM_BYTES),
    }
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a piece is stored: a file, and its bytes from ``offset`` on."""

    file: str
    offset: int
    length: int


def read_metadata(data: bytes) -> dict[str, tuple[StoredTensor, list[Piece]]]:
    """Return the tensors by name with the pieces that each is made of, which cover it exactly once.

    Raises:
        DamagedError: it is no metadata that torch wrote; nothing in it was run.
    """
    try:
        values = read_pickle(data, ALLOWED)
    except UnsafePickleError as error:
        raise DamagedError(str(error)) from error
    state = _state(values, *_METADATA)
    places = _places(_mapping(state.get("storage_data"), "storage_data"))
    found = {}
    for name, stored in _mapping(state.get("state_dict_metadata"), "state_dict_metadata").items():
        if not isinstance(name, str):
            raise DamagedError("a tensor's name is no text")
        if not (isinstance(stored, Record) and stored.name == _BYTES):
            found[name] = _tensor(name, _state(stored, _TENSOR), places)
    return found


def _tensor(
    name: str, state: Mapping[Any, Any], places: Mapping[tuple[str, tuple[int, ...]], Place]
) -> tuple[StoredTensor, list[Piece]]:
    shape = _size(state.get("size"), about=name)
    tensor = StoredTensor(shape, _dtype(name, state.get("properties")))
    chunks = state.get("chunks")
    if not isinstance(chunks, list):
        raise DamagedError(f"{name} has no list of pieces")
    pieces = []
    for chunk in chunks:
        fields = _state(chunk, _CHUNK)
        offsets = _size(fields.get("offsets"), about=f"a piece of {name}")
        where = places.get((name, offsets))
        if where is None:
            raise DamagedError(f"{name} has a piece that is stored nowhere")
        pieces.append(Piece(offsets, _size(fields.get("sizes"), about=f"a piece of {name}"), where))
    check_cover(shape, pieces, about=name)
    return tensor, pieces


def _places(storage: Mapping[Any, Any]) -> dict[tuple[str, tuple[int, ...]], Place]:
    """Return where each piece is stored, by its tensor's name and its offsets."""
    found: dict[tuple[str, tuple[int, ...]], Place] = {}
    for index, info in storage.items():
        key, place = _state(index, _INDEX), _state(info, _STORAGE)
        name, offset = key.get("fqn"), key.get("offset")
        if not isinstance(name, str):
            raise DamagedError("a piece belongs to no tensor")
        if offset is None:
            continue  # of an object that is no tensor
        if place.get("transform_descriptors"):
            raise DamagedError(f"{name} is compressed or in another form than torch.save's: save it without extensions")
        file, begin, length = place.get("relative_path"), place.get("offset"), place.get("length")
        if not isinstance(file, str) or type(begin) is not int or type(length) is not int:
            raise DamagedError(f"a piece of {name} is stored at no place")
        found[name, _size(offset, about=f"a piece of {name}")] = Place(file, begin, length)
    return found


def _dtype(name: str, properties: Any) -> str:
    if not isinstance(properties, Record) or properties.name not in _PROPERTIES:
        raise DamagedError(f"{name} has no properties")
    state = properties.state
    dtype = state.get("dtype") if isinstance(state, dict) else state[0] if isinstance(state, tuple) and state else None
    short = dtype.full.removeprefix("torch.") if isinstance(dtype, Name) else ""
    if short not in ITEM_BYTES:
        raise DamagedError(f"{name} has no type that is read")
    return short


def _size(value: Any, *, about: str) -> tuple[int, ...]:
    if not (isinstance(value, Record) and value.name == _SIZE and len(value.arguments) == 1):
        raise DamagedError(f"{about} has no shape")
    if not isinstance(value.arguments[0], tuple | list):
        raise DamagedError(f"{about} has no shape")
    return checked_shape(value.arguments[0], about=about)


def _state(value: Any, *names: str) -> Mapping[Any, Any]:
    """Return the fields of an object of one of these classes."""
    if not isinstance(value, Record) or value.name not in names or not isinstance(value.state, dict):
        raise DamagedError(f"it holds no {names[0].rpartition('.')[2]} where one belongs")
    return value.state


def _mapping(value: Any, about: str) -> Mapping[Any, Any]:
    if not isinstance(value, dict):
        raise DamagedError(f"its {about} is no mapping")
    return value
