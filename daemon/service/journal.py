"""The journal's native protocol: an entry with fields of its own, where a line on standard error has one text alone.

See systemd's `JOURNAL_NATIVE_PROTOCOL`. An entry is one datagram; one that is too long goes as a sealed memory file.
Where no journal listens, lines go to standard error with a priority in front (sd-daemon(3)).
"""

import array
import errno
import fcntl
import logging
import os
import socket
import struct
import sys
from collections.abc import Iterable, Mapping

ADDRESS = "/run/systemd/journal/socket"

_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def priority(level: int) -> int:
    """Return syslog's number for a level of :mod:`logging`."""
    return _PRIORITIES.get(level, 6)


def entry(fields: Mapping[str, object]) -> bytes:
    """Return an entry as the journal reads it: ``NAME=value`` lines, or a length where the value has lines itself."""
    return b"".join(_field(name.encode(), str(value).encode(errors="replace")) for name, value in fields.items())


def _field(name: bytes, value: bytes) -> bytes:
    if b"\n" in value:
        return name + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
    return name + b"=" + value + b"\n"


class JournalHandler(logging.Handler):
    """Sends each record as one entry: its text, its priority, where it was logged, and ``CAPTIOND_*`` for its fields.

    ``field_names`` are the attributes of a record that are fields. The formatter makes the text, of one line or many.
    """

    def __init__(self, field_names: Iterable[str], address: str = ADDRESS) -> None:
        super().__init__()
        self._field_names = tuple(field_names)
        self._socket = _datagram_socket()
        self._address = address

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record; what the journal does not take goes to standard error.

        A library that sets up its own logging by ``dictConfig`` closes every handler there is, vLLM for one.
        """
        if self._socket.fileno() < 0:
            self._socket = _datagram_socket()
        text = self.format(record)
        try:
            self._send(entry(self._fields(record, text)))
        except OSError:
            prefix = f"<{priority(record.levelno)}>"
            print("\n".join(prefix + line for line in text.splitlines()), file=sys.stderr, flush=True)

    def _fields(self, record: logging.LogRecord, text: str) -> dict[str, object]:
        own = {name: getattr(record, name, None) for name in self._field_names}
        return {
            "MESSAGE": text,
            "PRIORITY": priority(record.levelno),
            "SYSLOG_IDENTIFIER": "captiond",
            "LOGGER": record.name,
            "CODE_FUNC": record.funcName,
            "CODE_LINE": record.lineno,
            **{f"CAPTIOND_{name.upper()}": value for name, value in own.items() if value is not None},
        }

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendto(data, self._address)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            self._send_as_file(data)

    def _send_as_file(self, data: bytes) -> None:
        memory = os.memfd_create("captiond-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with os.fdopen(os.dup(memory), "wb") as file:
                file.write(data)
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [memory]))]
            self._socket.sendmsg([], rights, 0, self._address)
        finally:
            os.close(memory)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()


def _datagram_socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
