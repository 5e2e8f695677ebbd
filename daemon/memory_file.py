"""Memory files: bytes that processes share by a descriptor, mapped without a copy and without keeping it open."""

import ctypes
import fcntl
import mmap
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAP_FAILED = ctypes.c_void_p(-1).value
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
_PUNCH_HOLE = 0x01 | 0x02  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE

_MOST_DESCRIPTORS = 256  # of memory files that are used again; the usual limit of a process is 1,024
_in_use = set[int]()  # these
_ALIGNED = 64  # bytes: where each part of a message begins, so that a tensor of any type may lie there


def make(name: str, size_bytes: int) -> int:
    """Return the descriptor of a new memory file whose size nobody can change: no page can be pulled from a mapping."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size_bytes)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def mapped(descriptor: int, size_bytes: int, *, writable: bool = False) -> NDArray[np.uint8]:
    """Return a memory file's bytes, mapped until the array is gone; the descriptor may be closed.

    With ``writable`` what is written stays in this process. :mod:`mmap` would keep a descriptor a mapping; with
    hundreds of windows in an engine that is too many.
    """
    protection, sharing = mmap.PROT_READ, mmap.MAP_SHARED
    if writable:
        protection, sharing = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE
    address = _map(descriptor, size_bytes, protection, sharing)
    array = _array_at(address, size_bytes, partial(_libc.munmap, address, size_bytes))
    array.flags.writeable = writable
    return array


def _map(descriptor: int, size_bytes: int, protection: int, sharing: int) -> int:
    address: int = _libc.mmap(None, size_bytes, protection, sharing, descriptor, 0)
    if address == _MAP_FAILED:
        raise OSError(ctypes.get_errno(), "a memory file can't be mapped")
    return address


def _array_at(address: int, size_bytes: int, gone: Callable[[], object]) -> NDArray[np.uint8]:
    """Return mapped bytes; ``gone`` is called once when nobody has the array or a view of it any more."""
    block = (ctypes.c_ubyte * size_bytes).from_address(address)
    weakref.finalize(block, gone).atexit = False
    return np.ctypeslib.as_array(block)


class MemoryFile:
    """A memory file that another process writes and this one reads, again and again, each time while an array lives.

    Its pages stay where they are in between, so whoever writes to it next finds them there.
    """

    def __init__(self, name: str, size_bytes: int) -> None:
        self.size_bytes, self.descriptor = size_bytes, make(name, size_bytes)
        self._address = 0

    def lend(self, back: Callable[["MemoryFile"], None]) -> NDArray[np.uint8]:
        """Return the bytes, read-only; ``back`` is called when the array is gone, in whatever thread that happens.

        Where so many files are kept that others might find no descriptor left, that of a file that is lent for the
        first time is closed, and is -1 from then on.
        """
        if not self._address:
            self._address = _map(self.descriptor, self.size_bytes, mmap.PROT_READ, mmap.MAP_SHARED)
            if len(_in_use) < _MOST_DESCRIPTORS:
                _in_use.add(self.descriptor)
            else:
                os.close(self.descriptor)
                self.descriptor = -1
        array = _array_at(self._address, self.size_bytes, partial(back, self))
        array.flags.writeable = False
        return array

    def close(self) -> None:
        """Let the bytes go, of which nothing is lent. They go though the other process has them mapped."""
        if self.descriptor >= 0:
            pages = -(-self.size_bytes // mmap.PAGESIZE)
            _libc.fallocate(self.descriptor, _PUNCH_HOLE, 0, pages * mmap.PAGESIZE)
            _in_use.discard(self.descriptor)
            os.close(self.descriptor)
            self.descriptor = -1
        if self._address:
            _libc.munmap(self._address, self.size_bytes)
            self._address = 0


def written(name: str, parts: Sequence[Any]) -> int:
    """Return the descriptor of a memory file that holds these parts, for :func:`parts_of` in another process.

    A part is bytes, or an array.
    """
    views = [memoryview(_contiguous(part)).cast("B") for part in parts]
    table = np.array([len(views), *(view.nbytes for view in views)], dtype=np.uint64).tobytes()
    places = list(_places(len(table), [view.nbytes for view in views]))
    descriptor = make(name, places[-1] if places else len(table))
    try:
        _write(descriptor, memoryview(table), 0)
        for view, at in zip(views, places[:-1], strict=True):
            _write(descriptor, view, at)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def parts_of(descriptor: int) -> list[memoryview]:
    """Return the parts of a memory file, mapped without a copy; the file is unmapped with the last of them."""
    whole: memoryview = mapped(descriptor, os.fstat(descriptor).st_size, writable=True).data
    count = int.from_bytes(whole[:8], "little")
    sizes = [int(size) for size in np.frombuffer(whole[8 : 8 * (count + 1)], dtype=np.uint64)]
    places = _places(8 * (count + 1), sizes)
    return [whole[at : at + size] for size, at in zip(sizes, places, strict=False)]


def _contiguous(part: Any) -> Any:
    return np.ascontiguousarray(part) if isinstance(part, np.ndarray) else part


def _places(table_bytes: int, sizes: Sequence[int]) -> Iterator[int]:
    """Yield where each part begins, and then where the last one ends."""
    end = table_bytes
    for size in sizes:
        at = -(-end // _ALIGNED) * _ALIGNED
        yield at
        end = at + size
    yield end


def _write(descriptor: int, data: memoryview, at: int) -> None:
    while data.nbytes:
        done = os.pwrite(descriptor, data, at)
        data, at = data[done:], at + done
