"""The errors that vLLM's processes log while they start: why an engine did not come up stands nowhere else.

vLLM tells its parent that a process failed, and logs the exception there. So its logging gets one handler more for the
start, the standard library's own, which sends errors through a Unix socket in a folder of ours. Nothing of ours runs in
vLLM's processes. The handler drops what it can't send, so after the start it costs nothing and says nothing.
"""

import json
import pickle
import re
import shutil
import socket
import struct
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

CONFIG_VARIABLE = "VLLM_LOGGING_CONFIG_PATH"
_HANDLER = "captiond"
_MOST_BYTES = 2**20  # of one process; a traceback has some ten thousand
_WAITING = 64  # connections that wait to be accepted, one for each of vLLM's processes

# arguments of vLLM that set its logging
_OWN_LOGGING = ("logging_config", "log_config_file", "log_level")

# what a process logs of another's failure: the other's own record says what it was
_HEARSAY = re.compile(r"see (the )?(stack trace|root cause)|stack trace above", re.IGNORECASE)
_LAST_LINES = re.compile(r"^(?P<kind>[A-Za-z_][\w.]*)(?:: (?P<message>.*))?\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class LoggedError:
    """An exception that one of vLLM's processes logged: its class's dotted name, its message, and its whole stack."""

    kind: str
    message: str
    stack: str

    @classmethod
    def of_stack(cls, stack: str) -> "LoggedError | None":
        """Return the exception that a traceback as Python prints it ends with; None where that can't be told."""
        lines = stack.rpartition("Traceback (most recent call last):\n")[2].splitlines()
        first = next((k for k, line in enumerate(lines) if line[:1].strip()), len(lines))
        found = _LAST_LINES.match("\n".join(lines[first:]).strip())
        return None if found is None else cls(found["kind"], found["message"] or "", stack)

    @property
    def is_hearsay(self) -> bool:
        """Whether it is about another process's failure, which that process logged itself."""
        return bool(_HEARSAY.search(self.message))


class ErrorLog:
    """Receives what vLLM's processes log as errors, from :meth:`open` to :meth:`close`."""

    def __init__(self) -> None:
        self._closed = False
        self._folder: Path | None = None
        self._socket: socket.socket | None = None
        self._connections: list[tuple[socket.socket, bytearray]] = []

    def open(self, logging_config: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
        """Begin to receive; return what the environment of vLLM's processes needs. ``logging_config`` is vLLM's own.

        That is nothing where there is no place for a socket, or where the operator's own file of a logging
        configuration is for vLLM to complain about: then causes stay unknown, and the start goes on.
        """
        if self._closed:  # the start was given up before it came here
            return {}
        with suppress(OSError, ValueError):
            given = _given(environment, logging_config)
            self._folder = Path(tempfile.mkdtemp(prefix="captiond-"))
            address = str(self._folder / "errors")
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.bind(address)
            self._socket.listen(_WAITING)
            self._socket.setblocking(False)
            path = self._folder / "logging.json"
            path.write_text(json.dumps(_with_handler(given, address)))
            return {CONFIG_VARIABLE: str(path)}
        self.close()
        return {}

    def cause(self) -> LoggedError | None:
        """Return the exception that ended the start, of those that were logged until now.

        What a process that has ended logged is all here: it was in the socket before the process ended.
        """
        errors = [error for error in map(LoggedError.of_stack, self._stacks()) if error is not None]
        return next((error for error in reversed(errors) if not error.is_hearsay), None)

    def close(self) -> None:
        """Stop receiving, for good, and remove the folder. Safe to call again."""
        self._closed = True
        for connection, _ in self._connections:
            connection.close()
        self._connections = []
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _stacks(self) -> list[str]:
        """Return the tracebacks that were received, oldest first."""
        self._receive()
        records = [record for _, held in self._connections for record in _records(bytes(held))]
        records.sort(key=lambda record: float(record.get("created", 0.0)))
        return [text for record in records if isinstance(text := record.get("exc_text"), str)]

    def _receive(self) -> None:
        """Take over whatever is there now, without waiting."""
        if self._socket is None:
            return
        with suppress(BlockingIOError):
            while True:
                connection, _ = self._socket.accept()
                connection.setblocking(False)
                self._connections.append((connection, bytearray()))
        for connection, held in self._connections:
            with suppress(OSError):
                while len(held) < _MOST_BYTES and (part := connection.recv(65_536)):
                    held += part


def may_collect(args: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
    """Whether vLLM's logging is ours to add to: all its processes are on this machine, and nobody set it otherwise."""
    if environment.get("VLLM_CONFIGURE_LOGGING", "1") == "0" or any(args.get(name) for name in _OWN_LOGGING):
        return False
    backends = {args.get("distributed_executor_backend"), args.get("data_parallel_backend")}
    return "ray" not in backends and args.get("nnodes") in (None, 1)


def _given(environment: Mapping[str, str], own: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the logging configuration that vLLM would take: the operator's file, else ``own``, which is vLLM's."""
    if (path := environment.get(CONFIG_VARIABLE)) is None:
        return own
    given = json.loads(Path(path).read_text())
    if not isinstance(given, dict):
        raise ValueError(f"{path} holds no logging configuration")
    return given


def _with_handler(logging_config: Mapping[str, Any], address: str) -> dict[str, Any]:
    """Return a copy of a logging configuration whose ``vllm`` logger also sends errors to the socket."""
    config = deepcopy(dict(logging_config))
    handler = {"class": "logging.handlers.SocketHandler", "level": "ERROR", "host": address, "port": None}
    config.setdefault("handlers", {})[_HANDLER] = handler
    logger = config.setdefault("loggers", {}).setdefault("vllm", {})
    logger["handlers"] = [*logger.get("handlers", ()), _HANDLER]
    return config


def _records(held: bytes) -> list[dict[str, Any]]:
    """Return the log records in what a handler sent: each a length of four bytes, and a pickled dictionary."""
    found, at = list[dict[str, Any]](), 0
    while at + 4 <= len(held):
        (length,) = struct.unpack_from(">L", held, at)
        record = held[at + 4 : at + 4 + length]
        at += 4 + length
        if len(record) < length:
            break
        with suppress(pickle.UnpicklingError, EOFError, ValueError, IndexError):
            value = _PlainUnpickler(BytesIO(record)).load()
            if isinstance(value, dict):
                found.append(value)
    return found


class _PlainUnpickler(pickle.Unpickler):
    """Reads plain values alone: a record has no use for classes, and a class is how a pickle runs code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is no plain value")
