"""A ``.nemo`` checkpoint, as a tar file or as the folder it was extracted to, read without being extracted.

A tar is read member by member. It is refused when a member could lead out of a folder, is neither a file nor a folder,
comes twice, is sparse, or says that it is larger than the archive, since NeMo writes no such archive.
"""

import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

import yaml

from connectors.errors import ConfigurationError

CONFIG = "model_config.yaml"
_MAX_SMALL_BYTES = 64 * 2**20  # configurations and tokenizers; the largest known vocabulary has 10 MB
_MAX_MEMBERS = 100_000  # a distributed checkpoint has tens of thousands of files


_MAX_HEADER_BYTES = 2**20  # of a header that gives a long name; tarfile reads one whole
_LONG_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class NemoArchive(ABC):
    """The files of a checkpoint by their names, relative to its root, without ``./``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def seekable(self) -> bool:
        """Whether any place of a file is reached at once, without reading what lies before it."""
        return True

    @property
    @abstractmethod
    def names(self) -> frozenset[str]:
        """The names of all files."""

    @abstractmethod
    def open(self, name: str) -> IO[bytes]:
        """Return a file, open for reading and seeking; the caller closes it."""

    @abstractmethod
    def size_bytes(self, name: str) -> int:
        """Return a file's size."""

    def read(self, name: str) -> bytes:
        """Return the content of a small file."""
        if name not in self.names:
            raise ConfigurationError(f"{self.path} holds no {name}.")
        if self.size_bytes(name) > _MAX_SMALL_BYTES:
            raise ConfigurationError(f"{name} in {self.path} has {self.size_bytes(name):,} bytes, too many to be read.")
        with self.open(name) as file:
            return file.read()

    def config(self) -> dict[str, Any]:
        """Return ``model_config.yaml``, the ``model`` section of the training configuration."""
        try:
            values = yaml.safe_load(self.read(CONFIG))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{CONFIG} in {self.path} is not YAML: {error}") from error
        if not isinstance(values, dict):
            raise ConfigurationError(f"{CONFIG} in {self.path} holds no mapping.")
        return values


class _Folder(NemoArchive):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._names = frozenset(
            file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file() and not file.is_symlink()
        )

    @property
    def names(self) -> frozenset[str]:
        return self._names

    def open(self, name: str) -> IO[bytes]:
        return (self.path / name).open("rb")

    def size_bytes(self, name: str) -> int:
        return (self.path / name).stat().st_size


class _Header(tarfile.TarInfo):
    """A member's header, checked before tarfile acts on it: it trusts every size that it finds there."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0:
            raise tarfile.ReadError(f"its member {header.name[:100]!r} has a negative size")
        if header.type in _LONG_HEADERS and header.size > _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {header.size:,} bytes stands before a member")
        if header.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError(f"its member {header.name[:100]!r} is sparse")
        return header


class _Tar(NemoArchive):
    def __init__(self, path: Path, archive: tarfile.TarFile, *, compressed: bool) -> None:
        super().__init__(path)
        self._archive, self._compressed = archive, compressed
        self._members = _members(path, archive, None if compressed else path.stat().st_size)

    @property
    def seekable(self) -> bool:
        return not self._compressed

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._members)

    def open(self, name: str) -> IO[bytes]:
        file = self._archive.extractfile(self._members[name])
        if file is None:
            raise ConfigurationError(f"{name} in {self.path} can't be read.")
        return file

    def size_bytes(self, name: str) -> int:
        return self._members[name].size


def _members(path: Path, archive: tarfile.TarFile, size_bytes: int | None) -> dict[str, tarfile.TarInfo]:
    """Return the regular files of an archive of this size by name, or refuse it; a compressed one's size is unknown."""
    members: dict[str, tarfile.TarInfo] = {}
    for count, member in enumerate(archive):
        if count >= _MAX_MEMBERS:
            raise ConfigurationError(f"{path} has more than {_MAX_MEMBERS:,} members.")
        if member.isdir():
            continue
        pure = PurePosixPath(member.name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in member.name or not pure.parts:
            raise ConfigurationError(f"{path} is refused: its member {member.name!r} leads out of the archive.")
        if not member.isreg():
            raise ConfigurationError(f"{path} is refused: its member {member.name!r} is neither a file nor a folder.")
        name = pure.as_posix()
        if member.issparse():
            raise ConfigurationError(f"{path} is refused: its member {name!r} is sparse.")
        if member.size < 0:  # said by an extended header, which tarfile trusts
            raise ConfigurationError(f"{path} is refused: its member {name!r} has a negative size.")
        if size_bytes is not None and member.offset_data + member.size > size_bytes:
            raise ConfigurationError(f"{path} is refused: its member {name!r} ends after the archive does.")
        if name in members:
            raise ConfigurationError(f"{path} is refused: its member {name!r} comes twice.")
        members[name] = member
    return members


@contextmanager
def open_nemo(path: Path) -> Iterator[NemoArchive]:
    """Open a ``.nemo`` file, compressed or not, or the folder of an extracted one.

    Raises:
        ConfigurationError: ``path`` is neither, or the archive is refused.
    """
    if path.is_dir():
        yield _Folder(path)
        return
    if not path.is_file():
        raise ConfigurationError(f"{path} is neither a .nemo file nor a folder.")
    with ExitStack() as stack:
        compressed = _is_compressed(path)
        try:
            archive = tarfile.open(path, "r:*" if compressed else "r:", tarinfo=_Header)  # noqa: SIM115 - entered below
            opened = _Tar(path, stack.enter_context(archive), compressed=compressed)
        except ConfigurationError:
            raise
        except Exception as error:  # tarfile and the libraries of compression raise anything at a damaged file
            raise ConfigurationError(f"{path} is no .nemo file, or a damaged one: {error}.") from error
        yield opened


def _is_compressed(path: Path) -> bool:
    """Return whether a file begins as gzip's, bzip2's and xz's do."""
    with path.open("rb") as file:
        return file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"]\x00\x00\x80"))
