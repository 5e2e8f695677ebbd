"""A child that was taken over: whatever it answers, the program goes on, and the clip is tried again or rejected."""

import asyncio
import contextlib
import os
import socket
import struct
import subprocess
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from connectors.errors import ConfigurationError, Poison, Reason, Transient
from connectors.messages.safe_text import clean_line
from daemon.decoding.clip_plan import read_index, windows_from_answers
from daemon.decoding.fields import Choice, Form, Real, Text, Texts, Whole, Wholes, encode, fields_of
from daemon.decoding.fork_server import DecoderRequest, Forked, ForkServer
from daemon.decoding.index_block import ClipTimes, to_block
from daemon.decoding.media import MediaLimits
from daemon.decoding.packet_index import KEY, SHOWN, PacketIndex
from daemon.decoding.process import DecoderProcess
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
    Plan,
    Planned,
    Poisoned,
    Ready,
    pack,
    reading,
    unpack_answer,
    unpack_prefix,
)
from daemon.frame_look import Look
from daemon.windows import NS_PER_S, FramePolicy, WindowPolicy

LIMITS = MediaLimits(8_912_896, 86_400.0)
WINDOWS = WindowPolicy(NS_PER_S, NS_PER_S, NS_PER_S // 2)
FRAMES = FramePolicy(num_frames=4)
READY = Ready(("seccomp",), ("",), "PyAV", True)
DECODED = Decoded((0, 6, 12, 18), 1.5)
POISONED = Poisoned(Reason.CORRUPT, "x")


def index_of(count: int = 50) -> PacketIndex:
    ticks = np.arange(count, dtype=np.int64)
    return PacketIndex(Fraction(1, 25), ticks, ticks, np.full(count, KEY | SHOWN, np.uint8), 1)


INDEX = to_block(index_of())
NOTHING_MENDED = (0, 0, 0, 0, False, False, False)
PLANNED = Planned("h264", "matroska", 64, 36, 2.0, False, "", *NOTHING_MENDED, 50, len(INDEX))
VALID: tuple[Answer, ...] = (READY, Alive(), PLANNED, Index(), DECODED, POISONED, Fault("x"))


class HostileServer(ForkServer):
    """Forks nothing: the decoder's channel answers what it is told, whatever is asked."""

    def __init__(self, said: bytes) -> None:
        super().__init__()
        self.said = said

    async def fork(self, request: DecoderRequest, channel: socket.socket) -> Forked:
        mine = channel.dup()
        mine.setblocking(False)
        self.sleeper = subprocess.Popen(["/bin/sleep", "60"])
        self.saying = asyncio.get_running_loop().create_task(self._say(mine))
        return Forked(self.sleeper.pid, os.pidfd_open(self.sleeper.pid))

    async def _say(self, channel: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(channel, self.said)
            channel.shutdown(socket.SHUT_WR)
            while await loop.sock_recv(channel, 4096):  # what is asked is taken, and makes no difference
                pass
        except OSError:
            return
        finally:
            channel.close()


def framed(kind: type[Answer], header: bytes, block: bytes = b"") -> bytes:
    return PREFIX.pack(ANSWERS.index(kind), len(header), len(block)) + header + block


async def ask(said: bytes, started: bytes = pack(READY)) -> ClipTimes:
    """Ask a child for a plan that says this when it has started; it has ended unless it gave one, or a reason."""
    ended: list[bool] = []
    server = HostileServer(started + said)
    child = DecoderProcess(server, DecoderRequest(1 << 30))
    try:
        await child.start()
        request = Plan(1, "av", **reading(LIMITS, Look()))
        try:
            answer, block = await child.ask(request, Planned, [], b"", 5.0, lambda: None)
        except Transient:
            ended.append(not child.is_running)
            raise
        return read_index(answer, block, LIMITS, keyframes=True)
    finally:
        await child.end()
        await server.saying
        server.sleeper.wait()


def is_unharmed(said: bytes, started: bytes = pack(READY)) -> None:
    """Raise anything but what a clip's own failure raises."""
    with contextlib.suppress(Transient, Poison):
        asyncio.run(ask(said, started))
    with contextlib.suppress(Transient, Poison):
        windows_from_answers(said, LIMITS, WINDOWS, FRAMES)


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


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200))
@example(pack(Alive()) * 3)
def test_any_bytes_harm_nobody(said: bytes) -> None:
    is_unharmed(said)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(ANSWERS), st.binary(max_size=200), st.binary(max_size=200))
def test_any_fields_of_any_message_harm_nobody(kind: type[Answer], header: bytes, block: bytes) -> None:
    is_unharmed(framed(kind, header, block))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_message_with_any_byte_changed_harms_nobody(data: st.DataObject) -> None:
    said = bytearray(b"".join(pack(m, INDEX if m is PLANNED else b"") for m in (Alive(), PLANNED, DECODED)))
    for _ in range(data.draw(st.integers(1, 4))):
        said[data.draw(st.integers(0, len(said) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(said)) | st.just(len(said)))

    is_unharmed(bytes(said[:end]))


def bytes_of(form: Form) -> st.SearchStrategy[bytes]:
    """Return bytes in place of a field's: any of its form, most of them out of its bounds, or no field at all."""
    number = {
        Whole: st.integers(-(2**63), 2**63 - 1).map(struct.Struct("<q").pack),
        Real: st.floats().map(struct.Struct("<d").pack),
        Choice: st.integers(0, 255).map(struct.Struct("<B").pack),
    }
    count = st.integers(0, 2**32 - 1).map(struct.Struct("<I").pack)
    long = st.integers(0, 5000).flatmap(
        lambda n: st.binary(min_size=n % 40, max_size=n % 40).map(lambda part: struct.pack("<I", len(part)) + part)
    )
    assert isinstance(form, (*number, Text, Texts, Wholes))
    return st.binary(max_size=40) | number.get(type(form), count | long)


@pytest.mark.parametrize("message", VALID, ids=lambda message: type(message).__name__)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_message_with_any_field_changed_harms_nobody(message: Answer, data: st.DataObject) -> None:
    forms = fields_of(type(message))
    changed = data.draw(st.sampled_from([name for name, _ in forms] or [""]))
    header = b"".join(
        data.draw(bytes_of(form)) if name == changed else form.write(getattr(message, name)) for name, form in forms
    )
    said = framed(type(message), header, INDEX if isinstance(message, Planned) else b"")

    is_unharmed(said)
    is_unharmed(pack(PLANNED, INDEX) + said)


@given(st.data())
def test_any_index_is_an_index_or_a_fault(data: st.DataObject) -> None:
    """Of a block, each of its numbers may be any, and its columns too."""
    block = bytearray(INDEX)
    for _ in range(data.draw(st.integers(1, 3))):
        at, number = data.draw(st.integers(0, len(block) - 8)), data.draw(st.integers(0, 2**64 - 1) | st.integers(0, 9))
        block[at : at + 8] = struct.pack("<Q", number)
    rest = data.draw(st.binary(max_size=17 * 50))
    packets = data.draw(st.just(50) | st.integers(1, 2**20))

    for made_up in (bytes(block), bytes(block) + rest):
        planned = replace(PLANNED, packets=packets, index_bytes=len(made_up))
        with contextlib.suppress(Transient):
            times = read_index(planned, made_up, LIMITS, keyframes=True)
            assert (np.diff(times.pts_ns) >= 0).all()
            assert 0 < times.duration_ns <= LIMITS.max_duration_s * NS_PER_S


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
