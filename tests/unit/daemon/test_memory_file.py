"""Memory files: what is written is read, mappings outlive descriptors, and nothing is left open."""

import mmap
import os

import numpy as np
import pytest

from daemon import memory_file
from daemon.memory_file import MemoryFile, make, mapped, parts_of, written
from testing.open_files import open_files


@pytest.mark.parametrize("sizes", [[], [0], [1], [63, 64, 65], [0, 100_000, 0, 7]])
def test_parts_are_read_as_they_were_written(sizes: list[int]) -> None:
    parts = [bytes([at % 251]) * size for at, size in enumerate(sizes)]
    before = open_files()

    descriptor = written("test", parts)
    found = parts_of(descriptor)
    os.close(descriptor)

    assert [bytes(part) for part in found] == parts
    assert open_files() == before


def test_every_part_may_hold_a_tensor_of_any_type() -> None:
    descriptor = written("test", [b"x", np.arange(5, dtype=np.float64), b"y", np.arange(3, dtype=np.int64)[::2]])

    _, floats, _, strided = parts_of(descriptor)
    os.close(descriptor)

    assert np.frombuffer(floats, dtype=np.float64).tolist() == [0, 1, 2, 3, 4]
    assert np.frombuffer(strided, dtype=np.int64).tolist() == [0, 2]
    assert np.frombuffer(floats, dtype=np.uint8).ctypes.data % 64 == 0


def test_nobody_changes_the_size() -> None:
    descriptor = make("test", 100)

    with pytest.raises(OSError, match="not permitted"):
        os.ftruncate(descriptor, 10)
    os.close(descriptor)


def test_what_is_written_into_an_own_mapping_stays_there() -> None:
    descriptor = make("test", 100)
    own, shared = mapped(descriptor, 100, writable=True), mapped(descriptor, 100)

    own[:] = 7

    assert shared.max() == 0
    assert not shared.flags.writeable
    os.close(descriptor)


def test_a_file_is_lent_again_and_again_and_read_as_it_is_then() -> None:
    before, back = open_files(), list[MemoryFile]()
    file = MemoryFile("test", 100)
    for number in (1, 2):
        os.pwrite(file.descriptor, bytes([number]) * 100, 0)
        view = file.lend(back.append).reshape(10, 10)[2:]

        assert view.min() == view.max() == number
        assert not view.flags.writeable
        assert len(back) == number - 1

        del view
        assert back == [file] * number

    file.close()
    assert open_files() == before


def test_a_closed_file_takes_no_memory_though_another_process_has_it_mapped() -> None:
    size_bytes = 2**20
    file = MemoryFile("test", size_bytes)
    other = os.dup(file.descriptor)
    theirs = mmap.mmap(other, size_bytes)
    theirs[:] = bytes([7]) * size_bytes
    taken = os.fstat(other).st_blocks

    file.close()

    assert taken * 512 == size_bytes
    assert os.fstat(other).st_blocks == 0
    os.close(other)


def test_only_so_many_descriptors_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_file, "_MOST_DESCRIPTORS", 2)
    before = open_files()
    files = [MemoryFile("test", 100) for _ in range(3)]

    held = [file.lend(MemoryFile.close) for file in files]

    assert [file.descriptor >= 0 for file in files] == [True, True, False]
    held.clear()
    assert open_files() == before
    again = MemoryFile("test", 100)
    assert again.lend(MemoryFile.close).max() == 0
