"""Memory files: bytes that processes share by a descriptor, mapped without a copy and without keeping it open."""

import ctypes
import fcntl
import mmap
import os
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAP_FAILED = ctypes.c_void_p(-1).value
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

_MOST_DESCRIPTORS = 256  # kept beside mappings; the usual limit of a process is 1,024
_open = set[int]()  # those that are
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
    address = _libc.mmap(None, size_bytes, protection, sharing, descriptor, 0)
    if address == _MAP_FAILED:
        raise OSError(ctypes.get_errno(), "a memory file can't be mapped")
    block = (ctypes.c_ubyte * size_bytes).from_address(address)
    weakref.finalize(block, _libc.munmap, address, size_bytes).atexit = False
    array = np.ctypeslib.as_array(block)
    array.flags.writeable = writable
    return array


def mapped_with_descriptor(descriptor: int, size_bytes: int) -> tuple[NDArray[np.uint8], int]:
    """Return a memory file's bytes, read-only, and a descriptor of it that is closed when the array is gone.

    It is -1 where so many are open that others might find none left.
    """
    array = mapped(descriptor, size_bytes)
    if len(_open) >= _MOST_DESCRIPTORS:
        return array, -1
    kept = os.dup(descriptor)
    _open.add(kept)
    weakref.finalize(array.base, _close, kept).atexit = False
    return array, kept


def _close(descriptor: int) -> None:
    _open.discard(descriptor)
    os.close(descriptor)


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
