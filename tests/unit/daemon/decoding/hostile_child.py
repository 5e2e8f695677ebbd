"""A child that was taken over: it answers what it is told, whatever it is asked."""

import asyncio
import os
import socket
import subprocess
from fractions import Fraction

import numpy as np

from connectors.errors import Reason, Transient
from daemon.decoding.clip_plan import read_index
from daemon.decoding.fork_server import DecoderRequest, Forked, ForkServer
from daemon.decoding.index_block import ClipTimes, to_block
from daemon.decoding.media import MediaLimits
from daemon.decoding.packet_index import KEY, SHOWN, PacketIndex
from daemon.decoding.process import DecoderProcess
from daemon.decoding.protocol import (
    ANSWERS,
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
