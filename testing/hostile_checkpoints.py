"""Checkpoints as an attacker would make them: of a real one, with parts in it that run code or lie."""

import io
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from testing.megatron_files import members, packed

METADATA, COMMON = "./model_weights/.metadata", "./model_weights/common.pt"
TENSOR = "model.output_layer.weight"


class Touch:
    """An object whose loading makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def metadata_pickles(marker: Path) -> dict[str, bytes]:
    """Return pickles in the place of ``.metadata``; those that can touch ``marker`` where Python loads them."""
    command = f"touch {marker}".encode()
    short = lambda text: b"\x8c" + bytes([len(text)]) + text  # noqa: E731
    name = lambda module, attribute: short(module) + short(attribute) + b"\x93"  # noqa: E731
    called = lambda function, argument: b"\x80\x04" + function + short(argument) + b"\x85R."  # noqa: E731
    size = name(b"torch", b"Size")
    checkpoint = b"torch.distributed.checkpoint.metadata"
    return {
        "a method": pickle.dumps(Touch(marker)),
        "protocol 0": pickle.dumps(Touch(marker), protocol=0),
        "protocol 2": pickle.dumps(Touch(marker), protocol=2),
        "system": called(name(b"posix", b"system"), command),
        "eval": called(name(b"builtins", b"eval"), b"__import__('os').getpid()"),
        "an attribute of a module that is allowed": called(name(b"torch.serialization", b"os.system"), command),
        "an attribute of a class that is allowed": called(name(checkpoint, b"Metadata.__class__"), command),
        "torch.load": called(name(b"torch", b"load"), b"/etc/hostname"),
        "the operation INST": b"(S'touch " + str(marker).encode() + b"'\niposix\nsystem\n.",
        "the operation OBJ": b"(cposix\nsystem\nS'touch " + str(marker).encode() + b"'\no.",
        "an extension": b"\x80\x02\x82\x01.",
        "a persistent id": b"\x80\x02Psomething\n.",
        "a call of a class that is not one": called(short(b"torch.Size"), b"x"),
        "a state for a class": b"\x80\x04"
        + name(checkpoint, b"Metadata")
        + b"N}"
        + short(b"__reduce__")
        + size
        + b"s\x86b.",
        "a state of its own twice": b"\x80\x04" + name(checkpoint, b"Metadata") + b")\x81}b}b.",
        "a memo of two thousand million": b"\x80\x02}r\xff\xff\xff\x7f.",
        "keys that take forever to hash": b"\x80\x04)q\x01" + b"h\x01h\x01\x86q\x01" * 60 + b"}h\x01Ns.",
        "a text longer than the file": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.",
        "a number of a million digits": b"\x80\x02\x8b\x7f\xff\xff\x7f.",
        "a list in itself": b"\x80\x02]q\x00h\x00a.",
        "a hundred thousand lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        "an empty stack": b"\x80\x04R.",
        "no end": b"\x80\x04}",
        "nothing": b"",
        "no pickle": b"junk that is no pickle",
    }


Edit = Callable[[Any], None]


def _change(state: Any, **fields: Any) -> None:
    """Change where the first piece of a tensor is stored."""
    index = next(index for index in state.storage_data if index.fqn == TENSOR)
    state.storage_data[index] = replace(state.storage_data[index], **fields)


def _chunk(state: Any, **fields: Any) -> None:
    for key, value in fields.items():
        setattr(state.state_dict_metadata[TENSOR].chunks[0], key, torch.Size(value))


def _size(state: Any, *lengths: int) -> None:
    state.state_dict_metadata[TENSOR].size = torch.Size(lengths)


def _again(state: Any) -> None:
    chunks = state.state_dict_metadata[TENSOR].chunks
    chunks.append(chunks[0])


def _in(found: Any, field: str, value: Any) -> None:
    setattr(found, field, value)


LIES: dict[str, Edit] = {
    "a file outside": lambda state: _change(state, relative_path="../model_config.yaml"),
    "an absolute file": lambda state: _change(state, relative_path="/etc/hostname"),
    "a file that is not there": lambda state: _change(state, relative_path="__9_9.distcp"),
    "a file that is no text": lambda state: _change(state, relative_path=7),
    "a negative offset": lambda state: _change(state, offset=-1),
    "an offset after the end": lambda state: _change(state, offset=2**62),
    "no length": lambda state: _change(state, length=0),
    "a length after the end": lambda state: _change(state, length=2**62),
    "an offset that is no number": lambda state: _change(state, offset=1.5),
    "a transformation": lambda state: _change(state, transform_descriptors=["zstd"]),
    "a shape that overflows": lambda state: _size(state, 2**40, 2**40),
    "a shape of a thousand million rows": lambda state: _size(state, 2**30, 32),
    "a negative shape": lambda state: _size(state, -384, 32),
    "another number of dimensions": lambda state: _size(state, 384),
    "a hundred dimensions": lambda state: _size(state, *([1] * 100)),
    "a piece outside of the tensor": lambda state: _chunk(state, sizes=(10_000, 32)),
    "a piece too small": lambda state: _chunk(state, sizes=(1, 32)),
    "a piece that is stored nowhere": lambda state: _chunk(state, offsets=(1, 0)),
    "a piece twice": _again,
    "no pieces": lambda state: _in(state.state_dict_metadata[TENSOR], "chunks", []),
    "pieces that are no list": lambda state: _in(state.state_dict_metadata[TENSOR], "chunks", {}),
    "a type that is no weight's": lambda state: _in(state.state_dict_metadata[TENSOR].properties, "dtype", torch.qint8),
    "a tensor that is a text": lambda state: state.state_dict_metadata.update({TENSOR: "x"}),
    "a name that is a number": lambda state: state.state_dict_metadata.update({3: "x"}),
    "no places": lambda state: _in(state, "storage_data", None),
    "no tensors": lambda state: _in(state, "state_dict_metadata", []),
}


def lying(edit: Edit, path: Path, name: str = "stacked-tp1") -> Path:
    """Write a checkpoint whose metadata is of torch's own classes but is not true."""
    files = members(name)
    state = pickle.loads(files[METADATA])  # noqa: S301 - a file of our own
    edit(state)
    return packed(files | {METADATA: pickle.dumps(state)}, path)


def with_piece(payload: bytes, path: Path) -> Path:
    """Write a checkpoint in which a piece of a tensor consists of these bytes."""
    files = members("stacked-tp1")
    state = pickle.loads(files[METADATA])  # noqa: S301 - a file of our own
    _change(state, relative_path="__8_8.distcp", offset=0, length=len(payload))
    return packed(files | {METADATA: pickle.dumps(state), "./model_weights/__8_8.distcp": payload}, path)


def saved(value: Any, *, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def deflated(payload: bytes) -> bytes:
    """Return a zip file with its records compressed, as torch reads but does not write them."""
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(payload)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for record in old.infolist():
            new.writestr(record.filename, old.read(record))
    return buffer.getvalue()


def pieces(marker: Path) -> dict[str, bytes]:
    """Return bytes in the place of a piece of a tensor of 384 x 32 numbers in 16 bits."""
    right = torch.zeros(384, 32, dtype=torch.bfloat16)
    return {
        "code": saved(Touch(marker)),
        "code in a list": saved([right, Touch(marker)]),
        "a pickle": pickle.dumps(Touch(marker), protocol=2),
        "torch's older form": saved(right, zipped=False),
        "code in torch's older form": saved(Touch(marker), zipped=False),
        "compressed records": deflated(saved(torch.zeros(2**22))),
        "another shape": saved(right[:10].clone()),
        "another type": saved(right.float()),
        "a state": saved({"x": right}),
        "a sparse tensor": saved(right.to_sparse()),
        "a tensor without numbers": saved(torch.empty(384, 32, dtype=torch.bfloat16, device="meta")),
        "half of a piece": saved(right)[:9000],
        "the end of a piece": saved(right)[9000:],
        "nothing of a piece": b"\0" * 100,
    }
