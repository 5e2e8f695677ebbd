"""A torch_dist checkpoint: files of pieces, each a tensor as torch saves it, and ``.metadata``, which says where."""

import io
import zipfile
from collections.abc import Mapping
from typing import IO, Any

from neva.checkpoints.archive import NemoArchive
from neva.checkpoints.distributed.common_file import first_line, read_common
from neva.checkpoints.distributed.stored import DamagedError, DistributedCheckpoint, Piece, StoredTensor, refused
from neva.checkpoints.distributed.torch_metadata import Place, read_metadata

METADATA = ".metadata"
_MAX_RECORDS = 64  # torch saves a tensor as some six records
_MAX_OVERHEAD_BYTES = 2**20


class TorchDist(DistributedCheckpoint):
    """The tensors of a folder that torch's own distributed checkpointing wrote."""

    def __init__(self, archive: NemoArchive, folder: str, *, common: bool) -> None:
        self._archive, self._folder = archive, folder
        self._common = read_common(archive, folder) if common else {}
        member = f"{folder}/{METADATA}"
        try:
            stored = read_metadata(archive.read(member))
            for name, (_, pieces) in stored.items():
                for piece in pieces:
                    self._check_place(name, piece.where)
        except DamagedError as error:
            raise refused(archive.path, member, str(error)) from error
        self._pieces = {name: pieces for name, (_, pieces) in stored.items()}
        self._tensors = {name: tensor for name, (tensor, _) in stored.items()}
        for name, tensor in self._common.items():
            self._tensors.setdefault(name, StoredTensor(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")))

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        return self._tensors

    def _check_place(self, name: str, place: Place) -> None:
        member = f"{self._folder}/{place.file}"
        if member not in self._archive.names:
            raise DamagedError(f"a piece of {name} is in {place.file[:200]!r}, which is no file of the checkpoint")
        if place.offset < 0 or place.length <= 0 or place.offset + place.length > self._archive.size_bytes(member):
            raise DamagedError(f"a piece of {name} lies outside of {place.file}")

    def read(self, name: str, row: int | None = None) -> Any:
        import torch

        if name not in self._pieces:
            whole = self._common[name]
            return whole if row is None else whole[row]
        tensor, pieces = self._tensors[name], self._pieces[name]
        if row is None and len(pieces) == 1:
            return self._load(name, tensor, pieces[0])
        if row is None:
            found = torch.empty(tensor.shape, dtype=getattr(torch, tensor.dtype))
            for piece in pieces:
                found[piece.slices] = self._load(name, tensor, piece)
            return found
        found = torch.empty(tensor.shape[1:], dtype=getattr(torch, tensor.dtype))
        for piece in pieces:
            if piece.offsets[0] <= row < piece.offsets[0] + piece.shape[0]:
                found[piece.slices[1:]] = self._load(name, tensor, piece)[row - piece.offsets[0]]
        return found

    def _load(self, name: str, tensor: StoredTensor, piece: Piece) -> Any:
        """Return one piece; its file has to hold exactly what the metadata says."""
        import torch

        place: Place = piece.where
        member = f"{self._folder}/{place.file}"
        try:
            with self._archive.open(member) as file:
                view = _View(file, place.offset, place.length)
                _check_records(view, place.length)
                view.seek(0)
                loaded = torch.load(view, map_location="cpu", weights_only=True)
        except Exception as error:  # bytes that are no tensor may raise anything
            raise refused(self._archive.path, member, f"at {name}, {first_line(error)}") from error
        said = (tuple(getattr(loaded, "shape", ())), str(getattr(loaded, "dtype", None)))
        plain = type(loaded) is torch.Tensor and loaded.layout == torch.strided and loaded.device.type == "cpu"
        if not plain or said != (piece.shape, f"torch.{tensor.dtype}"):
            raise refused(self._archive.path, member, f"a piece of {name} is not the tensor that the metadata says")
        return loaded


def _check_records(file: "_View", length: int) -> None:
    """Refuse a piece that torch did not save: its records are stored as they are, and are not larger than the piece."""
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
    if len(records) > _MAX_RECORDS or any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise DamagedError("a piece is no tensor as torch saves it")
    if sum(record.file_size for record in records) > length:
        raise DamagedError("a piece says that it is larger than it is")


class _View(io.RawIOBase):
    """Some bytes of a file as a file."""

    def __init__(self, file: IO[bytes], begin: int, length: int) -> None:
        self._file, self._begin, self._length, self._at = file, begin, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence] + offset
        if self._at < 0:
            raise ValueError("a position before the beginning")
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        room = memoryview(buffer)[: max(self._length - self._at, 0)]
        if not room:
            return 0
        self._file.seek(self._begin + self._at)
        count = self._file.readinto(room) if hasattr(self._file, "readinto") else 0
        self._at += count
        return count
