"""A child that was taken over: whatever it answers, the program goes on, and the clip is tried again or rejected."""

import asyncio
import struct
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from connectors.errors import ConfigurationError, Poison, Reason, Transient
from connectors.messages.safe_text import clean_line
from daemon.decoding.clip_plan import read_index, windows_from_answers
from daemon.decoding.fields import Text, Texts, encode, fields_of
from daemon.decoding.index_block import to_block
from daemon.decoding.media import MediaLimits
from daemon.decoding.packet_index import PacketIndex
from daemon.decoding.protocol import (
    ANSWERS,
    MAX_ANSWER_BYTES,
    MAX_SMALL_INDEX_BYTES,
    PREFIX,
    Alive,
    Answer,
    Decoded,
    Fault,
    Index,
    Planned,
    Poisoned,
    Ready,
    pack,
    unpack_answer,
    unpack_prefix,
)
from tests.unit.daemon.decoding.hostile_child import (
    DECODED,
    FRAMES,
    INDEX,
    LIMITS,
    PLANNED,
    POISONED,
    READY,
    WINDOWS,
    ask,
    framed,
)


@pytest.mark.parametrize("comes_later", [False, True])
def test_a_child_that_means_well_is_understood(comes_later: bool) -> None:
    said = pack(Alive()) + (pack(PLANNED) + pack(Index(), INDEX) if comes_later else pack(PLANNED, INDEX))
    second = replace(DECODED, shown=(25, 31, 37, 43))

    times = None if comes_later else asyncio.run(ask(said))
    windows = windows_from_answers(said + pack(DECODED) + pack(Alive()) + pack(second), LIMITS, WINDOWS, FRAMES)

    assert times is None or len(times) == 50
    assert [(window.index, shown) for window, shown in windows] == [(0, (0, 6, 12, 18)), (1, (25, 31, 37, 43))]


@pytest.mark.parametrize(
    "said",
    [
        framed(Planned, b""),
        framed(Planned, b"{}"),
        framed(Planned, encode(PLANNED)),
        framed(Planned, encode(PLANNED), b"x"),
        framed(Planned, encode(PLANNED), INDEX + b"x"),
        framed(Planned, encode(replace(PLANNED, packets=49)), INDEX),
        framed(Planned, encode(replace(PLANNED, packets=51)), INDEX),
        framed(Planned, encode(replace(PLANNED, index_bytes=1)), INDEX),
        framed(Planned, encode(PLANNED), bytes(MAX_SMALL_INDEX_BYTES + 1)),
        framed(Index, b"", INDEX),
        framed(Planned, encode(PLANNED)[:-1], INDEX),
        framed(Planned, encode(PLANNED) + b"x", INDEX),
        framed(Planned, b"[" * 60_000, INDEX),
        framed(Planned, b"\xff" * 60_000, INDEX),
        framed(Alive, b"x"),
        framed(Alive, b"", b"x"),
        framed(Decoded, encode(DECODED), b"x"),
        framed(Decoded, encode(DECODED)),
        framed(Ready, encode(READY)),
        framed(Poisoned, b"\xff" + encode(POISONED)[1:]),
        framed(Poisoned, b""),
        framed(Fault, b"\xff\xff\xff\xff"),
        framed(Fault, b"\x02\0\0\0\xff\xfe"),
        PREFIX.pack(len(ANSWERS), 0, 0),
        PREFIX.pack(255, 0, 0),
        PREFIX.pack(ANSWERS.index(Planned), 2**32 - 1, 0),
        PREFIX.pack(ANSWERS.index(Planned), 16, 2**63),
        PREFIX.pack(ANSWERS.index(Planned), MAX_ANSWER_BYTES + 1, 0) + b" " * (MAX_ANSWER_BYTES + 1),
        b"",
        b"\0",
    ],
)
def test_an_answer_that_makes_no_sense_harms_nobody(said: bytes) -> None:
    with pytest.raises(Transient):
        asyncio.run(ask(said))
    with pytest.raises(Transient):
        windows_from_answers(said, LIMITS, WINDOWS, FRAMES)


@pytest.mark.parametrize("started", [b"", pack(PLANNED, INDEX), pack(POISONED), pack(Fault("x")), pack(Alive())])
def test_a_child_that_starts_with_anything_else_is_none(started: bytes) -> None:
    with pytest.raises(Transient):
        asyncio.run(ask(b"", started))


def test_a_child_without_its_cage_is_the_machines_fault() -> None:
    with pytest.raises(ConfigurationError, match=r"it lacks landlock \(no\)"):
        asyncio.run(ask(b"", pack(Ready(("landlock", "seccomp"), ("no", ""), "PyAV", False))))


def test_times_too_far_apart_are_a_fault() -> None:
    ticks = np.array([0, 2**52], np.int64)
    block = bytearray(to_block(PacketIndex(Fraction(1, 2**31 - 1), ticks, ticks, np.full(2, 3, np.uint8), 1)))
    block[:8] = struct.pack("<q", 2**31 - 1)

    with pytest.raises(Transient, match="too far apart"):
        read_index(replace(PLANNED, packets=2, index_bytes=len(block)), block, LIMITS, keyframes=True)


@pytest.mark.parametrize(
    ("limits", "planned"),
    [
        (replace(LIMITS, max_duration_s=1.9), PLANNED),
        (replace(LIMITS, max_pixels=64 * 36 - 1), PLANNED),
        (replace(LIMITS, max_frames=49), PLANNED),
        (LIMITS, replace(PLANNED, width=2**31 - 1, height=2**31 - 1)),
    ],
)
def test_every_limit_is_checked_again(limits: MediaLimits, planned: Planned) -> None:
    with pytest.raises(Transient, match="makes no sense"):
        read_index(planned, INDEX, limits, keyframes=False)


@pytest.mark.parametrize("shown", [(), (0,), (0, 1, 2, 50), (0, 1, 2, 3, 4)])
def test_frames_that_are_not_there_are_no_answer(shown: tuple[int, ...]) -> None:
    said = pack(PLANNED, INDEX) + pack(Decoded(shown, 0.0))

    with pytest.raises(Transient, match="makes no sense"):
        windows_from_answers(said, LIMITS, WINDOWS, FRAMES)


def test_what_a_child_says_is_one_clean_line_of_bounded_length() -> None:
    detail = ("a\x1b[31m\nb" + "x" * 9000).encode()
    said = framed(Poisoned, encode(POISONED)[:1] + struct.pack("<I", len(detail)) + detail)

    with pytest.raises(Poison) as caught:
        asyncio.run(ask(said))

    assert caught.value.reason == Reason.CORRUPT
    assert caught.value.detail.startswith("a[31m b")
    assert len(caught.value.detail) == 500


@pytest.mark.parametrize("message", [READY, PLANNED, POISONED, Fault("x")], ids=lambda message: type(message).__name__)
def test_every_text_is_cut_where_it_is_written_and_cleaned_where_it_is_read(message: Answer) -> None:
    dirty = "a\x1b]52;c\n\u202e\ud800" + "x" * 9000
    made_up: dict[type, Any] = {Text: dirty, Texts: (dirty,) * 16}
    forms = [(name, type(form)) for name, form in fields_of(type(message)) if type(form) in made_up]
    header = encode(replace(message, **{name: made_up[form] for name, form in forms}))  # type: ignore[arg-type]

    answer = unpack_answer(unpack_prefix(PREFIX.pack(ANSWERS.index(type(message)), 0, 0), ANSWERS), header, clean_line)

    assert len(header) <= MAX_ANSWER_BYTES
    for name, _ in forms:
        value = getattr(answer, name)
        for text in [value] if isinstance(value, str) else value:
            assert text.startswith("a]52;c ?x")
            assert len(text) <= 500
