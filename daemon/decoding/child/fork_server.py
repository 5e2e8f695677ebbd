"""The fork server: ``python -m daemon.decoding.child.fork_server SOCKET PARENT``. It imports once and forks decoders.

Importing PyAV takes a third of a second, a fork a hundredth. The server has one thread, sees no byte from outside, and
opens nothing; each decoder that it forks closes its own cage. It ends with the daemon, and its decoders with it.

daemon -> server   a request   + the decoder's socket
server -> daemon   a process id   + a descriptor of the decoder's process
"""

import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
import traceback
from contextlib import suppress
from typing import Any, NoReturn

from daemon.decoding.child.pyav import import_the_library
from daemon.decoding.child.shots import import_detectors
from daemon.decoding.child.worker import main as work

_PR_SET_PDEATHSIG = 1
_MAX_REQUEST_BYTES = 4096


def serve(connection: socket.socket) -> None:
    """Fork a decoder for each request until the daemon is gone."""
    while True:
        text, descriptors, _, _ = socket.recv_fds(connection, _MAX_REQUEST_BYTES, 2)
        if not text:
            return
        request = json.loads(text)
        if request["decord"]:
            importlib.import_module("decord")
        if request["shots"]:
            import_detectors()
        (channel,) = descriptors
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # not reaped before it has a descriptor
        server, pid = os.getpid(), os.fork()
        if pid == 0:
            connection.close()
            _become_a_decoder(channel, server, request)
        process = os.pidfd_open(pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        os.close(channel)
        socket.send_fds(connection, [str(pid).encode()], [process])
        os.close(process)


def _become_a_decoder(channel: int, server: int, request: dict[str, Any]) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    try:
        work(
            channel,
            server,
            memory_bytes=request["memory_bytes"],
            required=request["required"],
            on_device=request["on_device"],
        )
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _reap(*_: object) -> None:
    """Take note of decoders that ended, so that none stays a zombie."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def import_everything() -> None:
    """Import what a decoder may come to need: behind the cage no library can be loaded any more."""
    import_the_library()
    for name in ("numpy.ma", "encodings.idna", "encodings.latin_1", "daemon.decoding.child.decord"):
        importlib.import_module(name)


def main(arguments: list[str]) -> None:
    """Serve the daemon on the socket whose number is the first argument."""
    descriptor, parent = (int(argument) for argument in arguments)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    signal.signal(signal.SIGCHLD, _reap)
    import_everything()
    gc.freeze()  # collections would touch, and so copy, the pages that all decoders share
    with socket.socket(fileno=descriptor) as connection, suppress(ConnectionError):
        serve(connection)


if __name__ == "__main__":
    main(sys.argv[1:])
