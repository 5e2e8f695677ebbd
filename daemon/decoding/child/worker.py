"""The decoding child, forked by :mod:`daemon.decoding.child.fork_server`. It imports no model code.

It confines itself, then answers one request after the other until the parent is gone. A clip stays open between its
windows (a *session*), so a group of pictures that two windows share is decoded once. Frames are written into memory
files that the parent made, sized and sealed: nothing here can create or enlarge a file.
"""

import contextlib
import os
import socket
import time
from dataclasses import replace

from connectors.errors import Poison, Reason
from daemon.decoding.child.cage.sandbox import OPTIONAL, confine
from daemon.decoding.child.hardware import device_files, fact_folders, load_driver
from daemon.decoding.child.open_window import Mappings
from daemon.decoding.child.pyav import VERSION, device_fault
from daemon.decoding.child.session import Session, Sessions, open_clip
from daemon.decoding.fields import Data, decode
from daemon.decoding.index_block import from_block, to_block
from daemon.decoding.media import HEAD_BYTES
from daemon.decoding.protocol import (
    MAX_DESCRIPTORS,
    MAX_SMALL_INDEX_BYTES,
    PREFIX,
    REQUESTS,
    TURN_S,
    Alive,
    Answer,
    Asked,
    Decode,
    Decoded,
    Fault,
    FindShots,
    Forget,
    Index,
    Plan,
    Poisoned,
    Ready,
    Request,
    SendIndex,
    Shots,
    pack,
    unpack_prefix,
)
from daemon.frame_look import ON_DEVICE, FrameSize

Reply = tuple[Answer, bytes]

_SHARE_FOR_WINDOWS = 16  # of the address space, this part is for windows' memory that is filled again


class Worker:
    """Answers requests on a socket."""

    def __init__(self, connection: socket.socket, memory_bytes: int, *, has_device: bool = False) -> None:
        self._connection, self._has_device = connection, has_device
        self._sessions = Sessions(memory_bytes)
        self._mappings = Mappings(memory_bytes // _SHARE_FOR_WINDOWS)
        self._indices: dict[int, bytes] = {}  # of sessions, until the parent has room for them

    def serve(self) -> None:
        """Answer until the parent closes the socket."""
        while (message := receive(self._connection)) is not None:
            request, block, descriptors = message
            if isinstance(request, Forget):
                self._sessions.forget(request.session)
                self._mappings.forget(request.session)
                self._indices.pop(request.session, None)
                continue
            self._send(*self._answer(request, block, descriptors))

    def _send(self, answer: Answer, block: bytes = b"") -> None:
        self._connection.sendall(pack(answer, block))

    def _answer(self, request: Asked, block: Data, descriptors: list[int]) -> Reply:
        """Do one request; what the media did wrong is ``Poisoned``, anything unforeseen is a ``Fault``."""
        try:
            if isinstance(request, Plan):
                return self._plan(request, descriptors)
            if isinstance(request, SendIndex):
                return Index(), self._indices.pop(request.session)
            if isinstance(request, FindShots):
                return self._find_shots(request, block, descriptors)
            return self._decode(request, block, descriptors)
        except Poison as poison:
            return Poisoned(Reason(poison.reason), poison.detail), b""
        except MemoryError:
            detail = "decoding it takes more memory than limits.decoder_memory_bytes"
            return Poisoned(Reason.OVER_BUDGET, detail), b""
        except Exception as error:
            return Fault(f"{type(error).__name__}: {error}"), b""

    def _plan(self, request: Plan, descriptors: list[int]) -> Reply:
        (descriptor,) = descriptors
        try:
            limits = request.limits.of(os.pread(descriptor, HEAD_BYTES, 0))
            clip = open_clip(descriptor, limits, lambda: self._send(Alive()), request.threads)
            decoder, cursor = self._decoder_of(request), clip.cursor
            if decoder != "av":
                clip.close()
                cursor = None
            size = FrameSize(clip.planned.width, clip.planned.height)
            session = Session(descriptor, decoder, clip.index, size, limits, request.look, cursor)
            self._sessions.open(request.session, session)
            self._sessions.use(request.session)
        except BaseException:
            os.close(descriptor)
            raise
        block = to_block(clip.index)
        planned = replace(clip.planned, packets=len(clip.index.pts), index_bytes=len(block))
        if len(block) <= MAX_SMALL_INDEX_BYTES:
            return planned, block
        self._indices[request.session] = block
        return planned, b""

    def _decode(self, request: Decode, block: Data, descriptors: list[int]) -> Reply:
        began = time.perf_counter()
        if request.opens:
            self._open(request, block, descriptors.pop(0))
        session = self._sessions.use(request.session)
        for (window, frame_indices, size), memory in zip(request.new_windows, descriptors, strict=True):
            mapped = self._mappings.of(memory, len(frame_indices) * size.frame_bytes, request.session)
            session.add(window, memory, frame_indices, size, mapped)
        session.want(list(request.wanted), request.threads)
        until, last = began + TURN_S, request.target + request.targets - 1
        for target in range(request.target, last + 1):
            shown, done = session.fill(target), time.perf_counter()
            decoded = Decoded(tuple(shown), (done - began) * 1000, session.on_device, target < last and done < until)
            if not decoded.more:
                break
            self._send(decoded)
            began = done
        return decoded, b""

    def _find_shots(self, request: FindShots, block: Data, descriptors: list[int]) -> Reply:
        if request.opens:
            self._open(request, block, descriptors.pop(0))
        session = self._sessions.use(request.session)
        finder = session.shots(descriptors.pop(0), request.sensitivity, request.min_ns)
        cuts = finder.look(request.known, request.until, lambda: self._send(Alive()))
        return Shots(tuple(cuts), finder.looked), b""

    def _decoder_of(self, request: Plan | Decode | FindShots) -> str:
        return "av" if request.decoder == ON_DEVICE and not self._has_device else request.decoder

    def _open(self, request: Decode | FindShots, block: Data, descriptor: int) -> None:
        self._sessions.forget(request.session)
        size, index = FrameSize(request.width, request.height), from_block(block)
        limits = request.limits.of(os.pread(descriptor, HEAD_BYTES, 0))
        session = Session(descriptor, self._decoder_of(request), index, size, limits, request.look)
        self._sessions.open(request.session, session)


def main(descriptor: int, parent: int, *, memory_bytes: int, required: bool, on_device: bool) -> None:
    """Close the cage, then serve the daemon on a socket. ``parent`` is the process whose death ends this one.

    With ``on_device`` a graphics card decodes where there is one: its driver is loaded first, and the cage is wider.
    """
    connection = socket.socket(fileno=descriptor)
    fault, devices = "", device_files() if on_device else []
    if on_device:
        fault = load_driver() if devices else "there is no card of NVIDIA's"
    layers = confine(memory_bytes, parent, *((devices, fact_folders()) if devices and not fault else ()))
    if on_device and not fault:
        fault = device_fault()
    whole = all(name in OPTIONAL or not reason for name, reason in layers.items())
    with contextlib.suppress(EOFError, ConnectionError):
        confined = whole or not required
        connection.sendall(pack(Ready(tuple(layers), tuple(layers.values()), VERSION, confined, fault)))
        if not confined:
            return
        Worker(connection, memory_bytes, has_device=on_device and not fault).serve()


def receive(connection: socket.socket) -> tuple[Request, Data, list[int]] | None:
    """Wait for one request in the child; None when the parent is gone."""
    prefix, descriptors, _, _ = socket.recv_fds(connection, PREFIX.size, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    if not prefix:
        return None
    announced = unpack_prefix(prefix + _read(connection, PREFIX.size - len(prefix)), REQUESTS)
    request = decode(announced.kind, _read(connection, announced.header_bytes))
    return request, _read(connection, announced.block_bytes), list(descriptors)


def _read(connection: socket.socket, size_bytes: int) -> bytearray:
    data = bytearray(size_bytes)
    view, at = memoryview(data), 0
    while at < size_bytes:
        got = connection.recv_into(view[at:])
        if got == 0:
            raise EOFError("the other side is gone")
        at += got
    return data
