"""A renderer: ``python -m daemon.engines.rendering.worker SOCKET PARENT``. It has the model's processor and no weights.

Messages lie in memory files, whose descriptors go over the socket; a packet says which kind it is.

daemon -> renderer   CONFIGURE  the engine's configuration
renderer -> daemon   READY
daemon -> renderer   RENDER     a job, and the memory file of its pixels; or both in one file
renderer -> daemon   RENDERED   milliseconds, then vLLM's buffers;  or REFUSED  why vLLM refuses the window

It has no network, no device and no terminal, and ends with the daemon.
"""

import ctypes
import json
import os
import pickle
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from connectors.errors import Poison, Transient
from daemon.engines.rendering.job import RenderJob
from daemon.engines.rendering.no_network import leave_the_network
from daemon.engines.vllm import library
from daemon.memory_file import mapped, parts_of, written

CONFIGURE, READY, RENDER, RENDERED, REFUSED = b"configure", b"ready", b"render", b"rendered", b"refused"
MAX_PACKET_BYTES = 64

_PR_SET_PDEATHSIG = 1


def serve(connection: socket.socket) -> None:
    """Render until the daemon is gone."""
    renderer: Any = None
    while True:
        kind, descriptors, _, _ = socket.recv_fds(connection, MAX_PACKET_BYTES, 2)
        if kind == CONFIGURE:
            (configuration,) = _taken(descriptors[0])
            renderer = library.renderer_of(bytes(configuration))
            connection.send(READY)
        elif kind == RENDER:
            _answer(connection, *_rendered(renderer, descriptors))
        else:
            return


def _rendered(renderer: Any, descriptors: list[int]) -> tuple[bytes, Sequence[Any]]:
    """Render one job; return the kind of the answer and its parts."""
    begun_s = time.monotonic()
    packed, *own = _taken(descriptors[0])
    job: RenderJob = pickle.loads(packed)  # noqa: S301 - from the daemon, whose process this is
    if own:
        pixels = np.frombuffer(own[0], dtype=np.uint8)
    else:
        pixels = mapped(descriptors[1], int(np.prod(job.shape)), writable=True)
        os.close(descriptors[1])
    try:
        with library.translated(lambda: False):
            buffers = library.encoded(library.render(renderer, job.request(pixels)))
    except (Poison, Transient) as fault:
        about = {"reason": str(fault.reason), "detail": fault.detail, "origin": fault.origin}
        return REFUSED, [json.dumps(about | {"again": isinstance(fault, Transient)}).encode()]
    took_ms = (time.monotonic() - begun_s) * 1000
    return RENDERED, [json.dumps({"render_ms": took_ms}).encode(), *buffers]


def _taken(descriptor: int) -> list[memoryview]:
    try:
        return parts_of(descriptor)
    finally:
        os.close(descriptor)


def _answer(connection: socket.socket, kind: bytes, parts: Sequence[Any]) -> None:
    descriptor = written("captiond-rendered", parts)
    try:
        socket.send_fds(connection, [kind], [descriptor])
    finally:
        os.close(descriptor)


def main(arguments: list[str]) -> None:
    """Serve the daemon on the socket whose number is the first argument."""
    descriptor, parent = (int(argument) for argument in arguments)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C drains, it ends no renderer
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    try:
        leave_the_network()
    except (OSError, AttributeError):
        traceback.print_exc()
    with socket.socket(fileno=descriptor) as connection, suppress(ConnectionError):
        serve(connection)


if __name__ == "__main__":
    main(sys.argv[1:])
