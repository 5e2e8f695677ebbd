"""The process that takes rendered windows in place of vLLM's engine: ``python -m daemon.engines.vllm.receiver SOCKET``.

It takes each apart with vLLM's own decoder, as vLLM's engine does before the model sees it, and lets it go.
"""

import socket
import struct
import sys

from daemon.engines.vllm import library

SIZE = struct.Struct("<Q")
TAKEN = b"\x01"


def serve(connection: socket.socket) -> None:
    """Take windows until the other side is gone."""
    connection.sendall(TAKEN)
    while head := _read(connection, SIZE.size):
        (count,) = SIZE.unpack(head)
        sizes = [SIZE.unpack(_read(connection, SIZE.size))[0] for _ in range(count)]
        library.decoded([_read(connection, size) for size in sizes])
        connection.sendall(TAKEN)


def _read(connection: socket.socket, size_bytes: int) -> bytearray:
    """Return so many bytes, or none when the other side is gone."""
    data = bytearray(size_bytes)
    got = connection.recv_into(data, size_bytes, socket.MSG_WAITALL)
    return data if got == size_bytes else bytearray()


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as given:
        serve(given)
