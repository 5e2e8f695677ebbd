"""The fork server: ``python -m daemon.decoding.child.fork_server SOCKET PARENT``. It imports once and forks decoders.

Importing PyAV takes a third of a second, a fork a hundredth. The server has one thread, sees no byte from outside, and
opens nothing; each decoder that it forks closes its own cage. It ends with the daemon, and its decoders with it.

daemon -> server   a request (its length in the first four bytes)   + the decoder's socket and its standard error
server -> daemon   an empty message                                 + a descriptor of the decoder's process
"""

import ctypes
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import sys
from contextlib import suppress
from typing import Any, NoReturn

import av

from daemon.decoding.child import worker

_PR_SET_PDEATHSIG = 1
_MAX_REQUEST_BYTES = 4096


def serve(connection: socket.socket) -> None:
    """Fork a decoder for each request until the daemon is gone."""
    while True:
        text, descriptors, _, _ = socket.recv_fds(connection, _MAX_REQUEST_BYTES, 2)
        if not text:
            return
        _reap()
        request = json.loads(text)
        _import_for(request)
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            connection.close()
            _become_a_decoder(request, descriptors, server)
        process = os.pidfd_open(pid)  # a zombie at worst: nobody has reaped it
        for descriptor in descriptors:
            os.close(descriptor)
        socket.send_fds(connection, [b"."], [process])
        os.close(process)


def _become_a_decoder(request: dict[str, Any], descriptors: list[int], server: int) -> NoReturn:
    code = 1
    try:
        channel, errors = descriptors
        os.setsid()
        os.dup2(errors, 2)
        os.dup2(errors, 1)
        os.close(errors)
        worker.main(channel, server, memory_bytes=request["memory_bytes"], required=request["required"])
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(code)


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def import_everything() -> None:
    """Import what a decoder may come to need: behind the cage no library can be loaded any more."""
    for found in pkgutil.walk_packages(av.__path__, "av."):
        with suppress(ImportError):  # some of them need packages that are not there
            importlib.import_module(found.name)
    for name in ("numpy.ma", "encodings.idna", "encodings.latin_1", "encodings.ascii"):
        importlib.import_module(name)


def _import_for(request: dict[str, Any]) -> None:
    if request["decord"]:
        importlib.import_module("decord")


def main(arguments: list[str]) -> None:
    """Serve the daemon on the socket whose number is the first argument."""
    descriptor, parent = (int(argument) for argument in arguments)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    import_everything()
    gc.freeze()  # collections would touch, and so copy, the pages that all decoders share
    with socket.socket(fileno=descriptor) as connection, suppress(ConnectionError):
        serve(connection)


if __name__ == "__main__":
    main(sys.argv[1:])
