"""The program's side of the fork server, the process that imports once and forks decoders."""

import asyncio
import contextlib
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from connectors.messages.safe_text import clean_line

_ROOT = Path(__file__).resolve().parents[2]  # the folder that holds the package daemon
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV")  # no secret reaches a decoder
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # one, when the cage closes
_FORK_S = 30.0  # it imports numpy and PyAV, 0.3 s on an idle core, before it forks the first
_END_S = 1.0  # for a server whose socket was closed; then it is killed
_MAX_LINE_CHARS = 500
_MAX_LINES = 1_000  # then what decoders say is passed over: nobody reads more, and a journal is somebody's disk

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DecoderRequest:
    """What a decoder is told when it is forked. With ``required`` it ends unless every layer of its cage is there."""

    memory_bytes: int
    required: bool = True
    decord: bool = False  # decord can't be loaded behind the cage, and few need it
    on_device: bool = False  # a graphics card decodes, and the cage is wider by what that needs
    shots: bool = False  # it finds where the picture cuts, and what does that can't be loaded behind the cage either


@dataclass(frozen=True, slots=True)
class Forked:
    """A decoder's process: its number, and a descriptor that is never another's."""

    pid: int
    pidfd: int


@dataclass(frozen=True, slots=True)
class Launched:
    """A fork server's process, which imports by itself: launched early, it does so beside the program's own start."""

    process: subprocess.Popen[bytes]
    socket: socket.socket

    @classmethod
    def now(cls) -> "Launched":
        """Launch one; whoever does not hand it to a :class:`ForkServer` has to :meth:`close` it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        paths = [str(_ROOT), *filter(os.path.isabs, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        environment |= {**_ONE_THREAD, "PYTHONPATH": os.pathsep.join(paths)}
        try:
            process = subprocess.Popen(
                # -P: no module is ever imported from the folder that somebody stands in
                [
                    *(sys.executable, "-P", "-B", "-m", "daemon.decoding.child.fork_server"),
                    *(str(theirs.fileno()), str(os.getpid())),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                env=environment,
                cwd="/",
                start_new_session=True,  # it has no terminal that it could type into
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(process, ours)

    @property
    def errors(self) -> IO[bytes]:
        """What it and its decoders write to standard error."""
        assert self.process.stderr is not None  # noqa: S101 - a pipe was asked for
        return self.process.stderr

    def close(self) -> None:
        """End it at once. May be called again, and when another has ended it."""
        self.socket.close()
        self.process.kill()
        self.process.wait()
        self.errors.close()


class ForkServer:
    """Starts with the first decoder, and again where it has died. Its decoders die with it.

    The first is the one that was ``launched`` already, where there is one.
    """

    def __init__(self, launched: Launched | None = None) -> None:
        self._running = launched
        self._pipe: asyncio.ReadTransport | None = None
        self._listener: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._forking: set[asyncio.Task[Forked]] = set()

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        server = self._running
        return server.process.pid if server is not None and server.process.poll() is None else None

    async def fork(self, request: DecoderRequest, channel: socket.socket) -> Forked:
        """Fork a decoder that answers on ``channel``; :class:`EOFError` or ``OSError`` when the server can't.

        Cancelled when it is being forked, that is waited for in the background and this decoder alone is ended: an
        answer that nobody takes would be the next one's.
        """
        has_begun = asyncio.Event()
        forking = asyncio.create_task(self._fork(request, channel.dup(), has_begun), name="fork a decoder")
        self._forking.add(forking)
        forking.add_done_callback(self._forking.discard)
        try:
            return await asyncio.shield(forking)
        except asyncio.CancelledError:
            if has_begun.is_set():
                forking.add_done_callback(_end_unwanted)
            else:
                forking.cancel()
                await asyncio.wait([forking])
            raise

    async def _fork(self, request: DecoderRequest, channel: socket.socket, has_begun: asyncio.Event) -> Forked:
        with channel:
            async with self._turn:
                has_begun.set()
                server = await self._started()
                try:
                    async with asyncio.timeout(_FORK_S):
                        socket.send_fds(server.socket, [json.dumps(asdict(request)).encode()], [channel.fileno()])
                        return await self._forked(server.socket)
                except BaseException:
                    await self._end()  # an answer that comes later would be taken for the next one's
                    raise

    async def close(self) -> None:
        """End the server, and with it every decoder."""
        for forking in self._forking:
            forking.cancel()
        async with self._turn:
            await self._end()

    async def _started(self) -> Launched:
        """Return the server, launched where none runs."""
        if self._running is None or self.pid is None:
            await self._end()
            self._running = Launched.now()
        if self._listener is None:
            reader, loop = asyncio.StreamReader(), asyncio.get_running_loop()
            errors = self._running.errors
            self._pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), errors)
            self._listener = asyncio.create_task(_listen(reader), name="listen to decoders")
        return self._running

    async def _forked(self, connection: socket.socket) -> Forked:
        readable = asyncio.Event()
        with _reading(connection.fileno(), readable.set):
            await readable.wait()
        text, descriptors, _, _ = socket.recv_fds(connection, 32, 1)
        if not text or len(descriptors) != 1:
            raise EOFError("the fork server ended")
        return Forked(int(text), descriptors[0])

    async def _end(self) -> None:
        """End the server, at once where this is cancelled."""
        server, self._running = self._running, None
        listener, self._listener = self._listener, None
        pipe, self._pipe = self._pipe, None
        try:
            if server is not None:
                server.socket.close()
                await _let_end(server.process)  # which it does with its socket, after the last of its decoders
        finally:
            if listener is not None:
                listener.cancel()
            if pipe is not None:
                pipe.close()
            if server is not None:
                server.close()
        if listener is not None:
            await asyncio.gather(listener, return_exceptions=True)


@contextlib.contextmanager
def _reading(descriptor: int, then: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, then)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)


async def _let_end(process: subprocess.Popen[bytes]) -> None:
    """Give a process some time to end by itself."""
    if process.poll() is not None:
        return
    pidfd = os.pidfd_open(process.pid)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await wait_for_end(pidfd)
    finally:
        os.close(pidfd)


async def _listen(errors: asyncio.StreamReader) -> None:
    """Log what decoders write to standard error: cleaned, and not too much of it."""
    lines, rest = 0, b""
    while chunk := await errors.read(4096):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            lines += 1
            if lines <= _MAX_LINES and line.strip():
                text = line[: 4 * _MAX_LINE_CHARS].decode("utf-8", "replace")
                log.warning("A decoder says: %s", clean_line(text)[:_MAX_LINE_CHARS])
        rest = rest[-4096:]


def _end_unwanted(forking: asyncio.Task[Forked]) -> None:
    """End a decoder whose request was cancelled while it was forked; the server takes note of its end."""
    if not forking.cancelled() and forking.exception() is None:
        forked = forking.result()
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(forked.pidfd, signal.SIGKILL)
        os.close(forked.pidfd)


async def wait_for_end(pidfd: int) -> None:
    """Wait until the process of a descriptor has ended."""
    ended = asyncio.Event()
    with _reading(pidfd, ended.set):
        await ended.wait()


def has_ended(pidfd: int) -> bool:
    """Tell whether the process of a descriptor has ended: then it can be read."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))
