"""The program's side of the fork server, the process that imports once and forks decoders."""

import asyncio
import contextlib
import json
import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

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


class ForkServer:
    """Starts with the first decoder, and again where it has died. Its decoders die with it."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._socket: socket.socket | None = None
        self._listener: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._forking: set[asyncio.Task[Forked]] = set()

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

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
                if self.pid is None or self._socket is None:
                    await self._start()
                assert self._socket is not None  # noqa: S101 - it was started
                try:
                    async with asyncio.timeout(_FORK_S):
                        socket.send_fds(self._socket, [json.dumps(asdict(request)).encode()], [channel.fileno()])
                        return await self._forked(self._socket)
                except BaseException:
                    await self._end()  # an answer that comes later would be taken for the next one's
                    raise

    async def close(self) -> None:
        """End the server, and with it every decoder."""
        for forking in self._forking:
            forking.cancel()
        async with self._turn:
            await self._end()

    async def _start(self) -> None:
        await self._end()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        ours.setblocking(False)
        paths = [str(_ROOT), *filter(os.path.isabs, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        environment |= {**_ONE_THREAD, "PYTHONPATH": os.pathsep.join(paths)}
        try:
            self._process = await asyncio.create_subprocess_exec(
                # -P: no module is ever imported from the folder that somebody stands in
                *(sys.executable, "-P", "-B", "-m", "daemon.decoding.child.fork_server"),
                *(str(theirs.fileno()), str(os.getpid())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                env=environment,
                cwd="/",
                start_new_session=True,  # it has no terminal that it could type into
            )
        finally:
            theirs.close()
        assert self._process.stderr is not None  # noqa: S101 - a pipe was asked for
        self._listener = asyncio.create_task(_listen(self._process.stderr), name="listen to decoders")

    async def _forked(self, connection: socket.socket) -> Forked:
        readable = asyncio.Event()
        with _reading(connection.fileno(), readable.set):
            await readable.wait()
        text, descriptors, _, _ = socket.recv_fds(connection, 32, 1)
        if not text or len(descriptors) != 1:
            raise EOFError("the fork server ended")
        return Forked(int(text), descriptors[0])

    async def _end(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            try:
                async with asyncio.timeout(_END_S):
                    await self._process.wait()  # it ends with its socket, after the last of its decoders
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()
            self._process = None
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
            self._listener = None


@contextlib.contextmanager
def _reading(descriptor: int, then: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, then)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)


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
