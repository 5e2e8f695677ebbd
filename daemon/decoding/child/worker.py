"""The decoding child, forked by :mod:`daemon.decoding.child.fork_server`. It imports no model code.

It confines itself, then answers one request after the other until the parent is gone. A clip stays open between its
windows (a *session*), so a group of pictures that two windows share is decoded once. Frames are written straight into
memory files that the parent made, sized and sealed: nothing here can create or enlarge a file.
"""

import contextlib
import os
import socket
import time

from connectors.errors import Poison, Reason
from daemon.decoding.child.pixels import Geometry, Look
from daemon.decoding.child.pyav import VERSION
from daemon.decoding.child.sandbox import OPTIONAL, confine
from daemon.decoding.child.session import Session, Sessions, plan
from daemon.decoding.media import HEAD_BYTES, MediaLimits
from daemon.decoding.packet_index import PacketIndex
from daemon.decoding.protocol import Header, pack, receive
from daemon.windows import MaxFrameSize

Reply = tuple[Header, bytes]


class Worker:
    """Answers requests on a socket."""

    def __init__(self, connection: socket.socket, memory_bytes: int) -> None:
        self._connection = connection
        self._sessions = Sessions(memory_bytes)

    def serve(self) -> None:
        """Answer until the parent closes the socket."""
        while (message := receive(self._connection)) is not None:
            header, block, descriptors = message
            if header["kind"] == "forget":
                self._sessions.forget(header["session"])
                continue
            self._send(self._answer(header, block, descriptors))

    def _send(self, reply: Reply) -> None:
        self._connection.sendall(pack(*reply))

    def _answer(self, header: Header, block: bytes, descriptors: list[int]) -> Reply:
        """Do one request; what the media did wrong is ``poison``, anything unforeseen is a ``fault``."""
        try:
            if header["kind"] == "plan":
                return self._plan(header, descriptors)
            return self._decode(header, block, descriptors)
        except Poison as poison:
            return {"kind": "poison", "reason": poison.reason, "detail": poison.detail}, b""
        except MemoryError:
            detail = "decoding it takes more memory than limits.decoder_memory_bytes"
            return {"kind": "poison", "reason": Reason.OVER_BUDGET, "detail": detail}, b""
        except Exception as error:
            return {"kind": "fault", "detail": f"{type(error).__name__}: {error}"}, b""

    def _plan(self, header: Header, descriptors: list[int]) -> Reply:
        (descriptor,) = descriptors
        limits, look = _limits_of(descriptor, header), _look_of(header)
        max_size = MaxFrameSize(*header["max_frame_size"]) if header["max_frame_size"] else None
        try:
            answer, index = plan(descriptor, limits, max_size, lambda: self._send(({"kind": "alive"}, b"")))
            geometry = Geometry(answer["width"], answer["height"])
            session = Session(descriptor, header["decoder"], index, geometry, limits, look)
            self._sessions.open(header["session"], session)
        except BaseException:
            os.close(descriptor)
            raise
        return {"kind": "planned", **answer}, index.to_bytes()

    def _decode(self, header: Header, block: bytes, descriptors: list[int]) -> Reply:
        began = time.perf_counter()
        if header["open"]:
            self._open(header, block, descriptors.pop(0))
        session = self._sessions.use(header["session"])
        for (window, frame_indices), memory in zip(header["windows"], descriptors, strict=True):
            session.add(window, memory, frame_indices)
        shown = session.fill(header["target"], header["wanted"])
        return {"kind": "decoded", "shown": shown, "decode_ms": (time.perf_counter() - began) * 1000}, b""

    def _open(self, header: Header, block: bytes, descriptor: int) -> None:
        self._sessions.forget(header["session"])
        opening = header["open"]
        geometry, limits, look = Geometry(*opening["size"]), _limits_of(descriptor, opening), _look_of(opening)
        index = PacketIndex.from_bytes(block)
        self._sessions.open(header["session"], Session(descriptor, opening["decoder"], index, geometry, limits, look))


def _limits_of(descriptor: int, header: Header) -> MediaLimits:
    return MediaLimits(**header["limits"]).of(os.pread(descriptor, HEAD_BYTES, 0))


def _look_of(header: Header) -> Look:
    red, green, blue = header["look"]["background"]
    return Look((red, green, blue), header["look"]["tone_map"])


def main(descriptor: int, parent: int, *, memory_bytes: int, required: bool) -> None:
    """Close the cage, then serve the daemon on a socket. ``parent`` is the process whose death ends this one."""
    connection = socket.socket(fileno=descriptor)
    layers = confine(memory_bytes, parent)
    whole = all(name in OPTIONAL or not reason for name, reason in layers.items())
    with contextlib.suppress(EOFError, ConnectionError):
        if required and not whole:
            connection.sendall(pack({"kind": "unconfined", "layers": layers}))
            return
        connection.sendall(pack({"kind": "ready", "layers": layers, "decoder": VERSION}))
        Worker(connection, memory_bytes).serve()
