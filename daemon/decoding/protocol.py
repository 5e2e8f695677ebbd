"""The protocol between the program and a decoding child: a JSON header, a block of bytes, and open descriptors.

The descriptors of a message go with its first byte.

parent -> child   plan {session, decoder, limits, max_frame_size, look}+ the clip's descriptor
                  decode {session, target, windows, wanted, open?}   + [the clip's descriptor] + a memory file a window
                  forget {session}                                   no reply
child -> parent   ready {layers, decoder} · unconfined {layers} · alive {} · planned {...} + the index · decoded {...}
                  poison {reason, detail} · fault {detail}
"""

import json
import socket
import struct
from typing import Any

PREFIX = struct.Struct("<IQ")  # bytes of the header, bytes of the block
MAX_HEADER_BYTES = 16 * 2**20
MAX_BLOCK_BYTES = 512 * 2**20  # the index of media.MAX_FRAMES frames takes 340 MB
MAX_ANSWER_HEADER_BYTES = 64 * 2**10  # an answer's header names some frames and facts
MAX_DESCRIPTORS = 16

Header = dict[str, Any]


def pack(header: Header, block: bytes = b"") -> bytes:
    """Return one message as bytes."""
    text = json.dumps(header, separators=(",", ":")).encode()
    return b"".join((PREFIX.pack(len(text), len(block)), text, block))


def unpack_prefix(prefix: bytes, max_header_bytes: int = MAX_HEADER_BYTES) -> tuple[int, int]:
    """Return the sizes of header and block; ``ValueError`` when they are out of bounds."""
    header_bytes, block_bytes = PREFIX.unpack(prefix)
    if header_bytes > max_header_bytes or block_bytes > MAX_BLOCK_BYTES:
        raise ValueError(f"a message of {header_bytes} + {block_bytes} bytes")
    return header_bytes, block_bytes


def unpack_header(text: bytes) -> Header:
    """Return the header; ``ValueError`` when it is no JSON object."""
    header = json.loads(text)
    if not isinstance(header, dict):
        raise ValueError("a message's header is an object")
    return header


def receive(connection: socket.socket) -> tuple[Header, bytes, list[int]] | None:
    """Wait for one message in the child; None when the parent is gone."""
    prefix, descriptors, _, _ = socket.recv_fds(connection, PREFIX.size, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    if not prefix:
        return None
    prefix += _read(connection, PREFIX.size - len(prefix))
    header_bytes, block_bytes = unpack_prefix(prefix)
    header = unpack_header(_read(connection, header_bytes))
    return header, _read(connection, block_bytes), list(descriptors)


def _read(connection: socket.socket, size_bytes: int) -> bytes:
    data = bytearray(size_bytes)
    view, at = memoryview(data), 0
    while at < size_bytes:
        got = connection.recv_into(view[at:])
        if got == 0:
            raise EOFError("the other side is gone")
        at += got
    return bytes(data)
