"""A window's frames reach their places in its memory file, each decoded frame once."""

import os
import resource
from collections.abc import Callable

import numpy as np
import pytest

from daemon.decoding.child.open_window import Mappings, OpenWindow, fill
from daemon.frame_look import FrameSize
from daemon.memory_file import MemoryFile, make, mapped
from testing.open_files import open_files

SIZE, CLIP = FrameSize(6, 4), 1


def opened(frame_indices: list[int], size: FrameSize = SIZE) -> tuple[OpenWindow, np.ndarray]:
    size_bytes = len(frame_indices) * size.frame_bytes
    memory = make("test", size_bytes)
    frames = mapped(memory, size_bytes).reshape(-1, size.height, size.width, 3)
    return OpenWindow.of(memory, frame_indices, size), frames


def drawing(frame_index: int, calls: list[int]) -> Callable[..., int]:
    def write(*outs: np.ndarray) -> int:
        calls.append(len(outs))
        for out in outs:
            out[...] = frame_index
        return frame_index

    return write


def test_a_frame_is_written_once_for_all_places_of_its_size() -> None:
    one, seen = opened([3, 3, 5])
    other, seen_by_other = opened([3])
    small, seen_small = opened([3], FrameSize(2, 2))
    calls: list[int] = []

    for frame_index in (3, 5):
        places = [w.pending[frame_index] for w in (one, other, small) if frame_index in w.pending]
        shown = fill(places, drawing(frame_index, calls))
        for window in (one, other, small):
            window.is_written(frame_index, shown)

    assert calls == [2, 1]  # two sizes, then one
    assert [w.finish() for w in (one, other, small)] == [[3, 3, 5], [3], [3]]
    assert [frames[:, 0, 0, 0].tolist() for frames in (seen, seen_by_other, seen_small)] == [[3, 3, 5], [3], [3]]
    assert all((frames == frames[:, :1, :1]).all() for frames in (seen, seen_by_other, seen_small))


def test_what_is_missing_shows_the_frame_before_or_the_first_one() -> None:
    window, seen = opened([1, 2, 3, 4])
    for frame_index in (1, 2, 3, 4):
        readable = frame_index in (2, 4)
        place = window.pending[frame_index]
        shown = fill([place], drawing(frame_index, []) if readable else lambda *_: -1)
        window.is_written(frame_index, shown)

    assert window.finish() == [2, 2, 2, 4]
    assert seen[:, 0, 0, 0].tolist() == [2, 2, 2, 4]


def test_nothing_is_written_of_a_window_without_a_readable_frame() -> None:
    window, seen = opened([7, 8])
    for frame_index in (7, 8):
        window.is_written(frame_index, fill([window.pending[frame_index]], lambda *_: -1))

    assert window.finish() == [-1, -1]
    assert not seen.any()


def test_its_file_is_closed_when_it_is_done() -> None:
    window, _ = opened([0])
    descriptor = window.memory

    window.close()
    window.close()

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_window_larger_than_may_be_written_is_a_lack_of_memory() -> None:
    window, _ = opened([0, 1])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE.frame_bytes, hard))
    try:
        fill([window.pending[0]], drawing(0, []))
        with pytest.raises(MemoryError):
            fill([window.pending[1]], drawing(1, []))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        window.close()


def filled(mappings: Mappings, memory: int, frame_index: int) -> OpenWindow:
    """Fill a window of two frames in a file that the program sends, and keep nothing open of it."""
    ours = os.dup(memory)
    window = OpenWindow.of(ours, [frame_index, frame_index + 1], SIZE, mappings.of(ours, 2 * SIZE.frame_bytes, CLIP))
    for at in (frame_index, frame_index + 1):
        readable = at == frame_index
        window.is_written(at, fill([window.pending[at]], drawing(at, []) if readable else lambda *_: -1))
    assert window.finish() == [frame_index, frame_index]
    return window


def test_a_file_that_comes_again_is_written_through_a_mapping() -> None:
    memory, mappings = make("test", 2 * SIZE.frame_bytes), Mappings(2**20)
    seen = mapped(memory, 2 * SIZE.frame_bytes)

    windows = []
    for frame_index in (1, 5, 9):
        windows.append(filled(mappings, memory, frame_index))
        assert seen.tolist() == [frame_index] * seen.size

    assert windows[0].mapped is None
    assert windows[1].mapped is windows[2].mapped is not None
    assert {window.memory for window in windows} == {-1}
    os.close(memory)


def test_a_file_that_is_too_large_is_not_mapped_and_leaves_the_others_alone() -> None:
    mappings = Mappings(2 * SIZE.frame_bytes)
    small, large = make("test", 2 * SIZE.frame_bytes), make("test", 3 * SIZE.frame_bytes)
    for _ in range(2):
        kept = mappings.of(small, 2 * SIZE.frame_bytes, CLIP)

    for _ in range(3):
        assert mappings.of(large, 3 * SIZE.frame_bytes, CLIP) is None

    assert kept is not None
    assert mappings.of(small, 2 * SIZE.frame_bytes, CLIP) is kept
    os.close(small)
    os.close(large)


def test_a_clip_that_ends_takes_along_what_it_had_last() -> None:
    files, mappings = [make("test", 2 * SIZE.frame_bytes) for _ in range(2)], Mappings(2**20)
    for memory in files * 2:
        mappings.of(memory, 2 * SIZE.frame_bytes, CLIP)
    kept = mappings.of(files[0], 2 * SIZE.frame_bytes, CLIP + 1)
    before = open_files()

    mappings.forget(CLIP)

    assert len(open_files()) == len(before) - 1
    assert mappings.of(files[0], 2 * SIZE.frame_bytes, CLIP + 1) is kept
    assert mappings.of(files[1], 2 * SIZE.frame_bytes, CLIP + 1) is not None
    for memory in files:
        os.close(memory)


def test_only_so_many_bytes_are_mapped_and_every_file_is_filled() -> None:
    files = [make("test", 2 * SIZE.frame_bytes) for _ in range(5)]
    before = open_files()
    mappings = Mappings(4 * SIZE.frame_bytes)

    for frame_index in range(1, 5):
        for memory in files:
            filled(mappings, memory, frame_index)
            assert set(os.pread(memory, 2 * SIZE.frame_bytes, 0)) == {frame_index}

    assert len(open_files()) == len(before) + 2  # mmap keeps a descriptor beside each mapping
    for memory in files:
        os.close(memory)


def test_a_file_that_the_program_let_go_of_holds_no_memory() -> None:
    file, mappings = MemoryFile("test", 2 * SIZE.frame_bytes), Mappings(2**20)
    for frame_index in (1, 2):
        filled(mappings, file.descriptor, frame_index)
    ours = os.dup(file.descriptor)
    assert os.fstat(ours).st_blocks > 0

    file.close()

    assert os.fstat(ours).st_blocks == 0
    os.close(ours)
