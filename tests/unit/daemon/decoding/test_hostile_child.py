"""A child that was taken over: whatever it answers, the program goes on, and the clip is tried again or rejected."""

import asyncio
import json
import os
import socket
import struct
import subprocess

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from connectors.errors import Poison, Reason, Transient
from daemon.decoding.clip_plan import read_answer
from daemon.decoding.fork_server import DecoderRequest, Forked, ForkServer
from daemon.decoding.packet_index import PacketIndex
from daemon.decoding.process import DecoderProcess
from daemon.decoding.protocol import PREFIX, pack

READY = pack({"kind": "ready", "layers": {}, "decoder": "x"})
DEEP = b'{"kind":' + b"[" * 30_000 + b"]" * 30_000 + b"}"


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
            await loop.sock_sendall(channel, READY + self.said)
            channel.shutdown(socket.SHUT_WR)
            while await loop.sock_recv(channel, 4096):  # what is asked is taken, and makes no difference
                pass
        except OSError:
            return
        finally:
            channel.close()


def framed(header: bytes, block: bytes = b"") -> bytes:
    return PREFIX.pack(len(header), len(block)) + header + block


async def ask(said: bytes) -> object:
    server = HostileServer(said)
    child = DecoderProcess(server, DecoderRequest(1 << 30))
    try:
        await child.start()
        answer, block = await child.ask({"kind": "plan"}, [], b"", 5.0, lambda: None)
        return read_answer(answer, block, 8_912_896)
    finally:
        await child.end()
        await server.saying
        server.sleeper.wait()


def is_unharmed(said: bytes) -> None:
    """Raise anything but what a clip's own failure raises."""
    try:
        asyncio.run(ask(said))
    except (Transient, Poison):
        return


@pytest.mark.parametrize(
    "said",
    [
        framed(b"{}"),
        framed(b"[]"),
        framed(b"null"),
        framed(DEEP),
        framed(b'{"kind": "planned", "width": Infinity}'),
        framed(b'{"kind": "planned"}', b"x"),
        framed(b'{"kind": {"a": 1}}'),
        framed(b'{"kind": "poison"}'),
        framed(b'{"kind": "poison", "reason": "made_up", "detail": "x"}'),
        framed(b'{"kind": "poison", "reason": ["corrupt"], "detail": "x"}'),
        framed(b'{"kind": "fault", "detail": {"deep": [1]}}'),
        framed(b'{"kind": "unconfined"}'),
        framed(b"\xff\xfe"),
        framed(b'{"kind": "planned", "width": 1' + b"0" * 5000 + b"}"),
        PREFIX.pack(2**32 - 1, 0),
        PREFIX.pack(16, 2**63),
        PREFIX.pack(70_000, 0) + b" " * 70_000,
        b"",
        b"\0",
    ],
)
def test_an_answer_that_makes_no_sense_harms_nobody(said: bytes) -> None:
    is_unharmed(said)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200))
@example(framed(b'{"kind":"alive"}') * 3)
def test_any_bytes_harm_nobody(said: bytes) -> None:
    is_unharmed(said)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FACTS = ("codec", "container", "width", "height", "declared_s", "truncated", "failure")


@given(st.fixed_dictionaries({name: json_values for name in FACTS}), st.binary(max_size=100))
def test_any_facts_are_facts_or_a_fault(facts: dict[str, object], block: bytes) -> None:
    with pytest.raises(Transient):
        read_answer(facts, block, 8_912_896)


INDEX_HEADERS = st.fixed_dictionaries(
    {
        "time_base": st.lists(st.integers(-(2**70), 2**70), max_size=3),
        "packets": st.integers(-2, 4),
        "last_ticks": st.integers(-(2**70), 2**70),
        "counted": json_values,
    }
)


@given(INDEX_HEADERS, st.binary(max_size=80))
@example({"time_base": [1, 0], "packets": 1, "last_ticks": 1, "counted": False}, bytes(17))
def test_any_index_is_an_index_or_a_fault(header: dict[str, object], rest: bytes) -> None:
    text = json.dumps(header).encode()
    facts = {"codec": "", "container": "", "width": 1, "height": 1, "declared_s": 0, "truncated": False, "failure": ""}

    try:
        index, _ = read_answer(facts, struct.pack("<I", len(text)) + text + rest, 8_912_896)
    except Transient:
        return
    assert isinstance(index, PacketIndex)


def test_what_a_child_says_is_one_clean_line_of_bounded_length() -> None:
    said = framed(json.dumps({"kind": "poison", "reason": "corrupt", "detail": "a\x1b[31m\nb" + "x" * 9000}).encode())

    with pytest.raises(Poison) as caught:
        asyncio.run(ask(said))

    assert caught.value.reason == Reason.CORRUPT
    assert caught.value.detail.startswith("a[31m b")
    assert len(caught.value.detail) == 500
