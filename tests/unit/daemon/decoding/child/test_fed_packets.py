"""Packets that a decoder is fed: none beyond what the frames asked for need, and the frames are right."""

import os
from pathlib import Path

import pytest

from daemon.decoding.child.cursor import FrameCursor
from daemon.decoding.child.frame_writer import AvWriter
from daemon.decoding.child.session import open_clip, plan
from daemon.frame_look import FrameSize, Look
from daemon.windows import WindowPolicy
from tests.corpus.clips import Recipe, Truth, make
from tests.corpus.painted import HEIGHT, WIDTH, read
from tests.unit.daemon.decoding.child.counting import (
    LIMITS,
    CountingSession,
    asked_of,
    fewest_packets,
    packets_read,
    shown_by,
    windows_of,
)
from tests.unit.daemon.decoding.child.damaged import damaged_copy


@pytest.mark.slow  # every frame of several clips is decoded
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("seconds", [1, 10])
def test_nothing_is_fed_beyond_the_last_frame_that_a_group_has_to_show(
    truth: Truth, threads: int, seconds: int
) -> None:
    descriptor = os.open(truth.path, os.O_RDONLY)
    _, index = plan(descriptor, LIMITS, lambda: None)
    asked = asked_of(index, seconds)
    cursor = FrameCursor(descriptor, index, LIMITS, threads)

    cursor.want(asked, threads)
    for number in asked:
        shown = cursor.get(number)
        assert shown is not None
        assert shown[0] == number == int(read(shown[1].to_ndarray(format="rgb24")))
    late = 2 + 4 * (threads - 1)  # B-frames are fed before the last but one comes out, and threads a few more
    assert cursor.fed <= fewest_packets(index, asked) + late * int(index.keyframes.sum())
    cursor.close()
    os.close(descriptor)


def test_frames_that_nobody_announced_are_right_after_the_decoder_was_emptied(truth: Truth) -> None:
    descriptor = os.open(truth.path, os.O_RDONLY)
    _, index = plan(descriptor, LIMITS, lambda: None)
    cursor = FrameCursor(descriptor, index, LIMITS)

    for number in (31, 33, 32, 34, 30, 499, 498, 0):
        cursor.want([number])
        shown = cursor.get(number)
        assert shown is not None
        assert shown[0] == number == int(read(shown[1].to_ndarray(format="rgb24")))
        other = cursor.get(max(number - 1, 0))
        assert other is not None
        assert other[0] == max(number - 1, 0)
    cursor.close()
    os.close(descriptor)


def test_several_threads_show_the_same_of_a_damaged_clip(truth: Truth, tmp_path: Path) -> None:
    damaged = damaged_copy(truth.path, tmp_path)
    descriptor = os.open(damaged, os.O_RDONLY)
    _, index = plan(descriptor, LIMITS, lambda: None)
    assert not index.counted
    asked = list(range(0, len(index), 62))
    writers = [AvWriter(descriptor, index, LIMITS, Look()) for _ in range(2)]

    alone, threaded = shown_by(writers[0], asked), shown_by(writers[1], asked, 3)

    assert alone == threaded
    for writer in writers:
        writer.close()
    os.close(descriptor)


def test_frames_of_av1_that_nothing_refers_to_are_not_decoded(tmp_path: Path) -> None:
    options = {"preset": "10", "svtav1-params": "keyint=50:hierarchical-levels=3:lookahead=40"}
    truth = make(tmp_path / "clip", Recipe(codec="libsvtav1", frames=200, options=options))
    descriptor = os.open(truth.path, os.O_RDONLY)
    clip = open_clip(descriptor, LIMITS, lambda: None)
    asked = asked_of(clip.index, 2)
    assert clip.cursor is not None

    writer = AvWriter(descriptor, clip.index, LIMITS, Look(), None, clip.cursor)
    shown = shown_by(writer, asked)

    every = AvWriter(descriptor, clip.index, LIMITS, Look())
    every._cursor._decode_everything()  # as where a frame is missing
    assert shown == shown_by(every, asked)
    assert clip.cursor.fed < 0.9 * fewest_packets(clip.index, asked)
    for one in (writer, every):
        one.close()
    os.close(descriptor)


def test_decoding_goes_on_from_the_frame_that_the_plan_has_decoded(truth: Truth) -> None:
    descriptor = os.open(truth.path, os.O_RDONLY)
    clip = open_clip(descriptor, LIMITS, lambda: None)
    assert clip.cursor is not None
    session = CountingSession(descriptor, "av", clip.index, FrameSize(WIDTH, HEIGHT), LIMITS, None, clip.cursor)
    session.index_of_clip = clip.index  # type: ignore[attr-defined]

    windows = windows_of(session, WindowPolicy(whole=True))
    shown, frames = session.take(windows, 0)

    assert shown == list(windows[0].frame_indices) == [int(read(frame)) for frame in frames]
    assert clip.cursor.fed <= fewest_packets(clip.index, shown) + 8
    session.close()


def test_key_frames_alone_are_decoded_without_the_packets_between(truth: Truth) -> None:
    descriptor = os.open(truth.path, os.O_RDONLY)
    _, index = plan(descriptor, LIMITS, lambda: None)
    keys = [int(key) for key in index.keys]
    cursor = FrameCursor(descriptor, index, LIMITS)
    before = packets_read(cursor)

    cursor.want(keys)
    for key in keys:
        shown = cursor.get(key)
        assert shown is not None
        assert shown[0] == key == int(read(shown[1].to_ndarray(format="rgb24")))

    assert cursor.fed == len(keys)
    assert packets_read(cursor) - before <= len(keys) * (12 if len(keys) > 10 else 1)
    cursor.close()
    os.close(descriptor)
