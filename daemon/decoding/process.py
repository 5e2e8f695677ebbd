"""One decoding child as the program sees it: it is started, asked and ended, and never asked again once it failed."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

from connectors.errors import Poison, Reason, Transient
from daemon.decoding.protocol import PREFIX, Header, pack, unpack_header, unpack_prefix

_START_S = 30.0  # importing numpy and PyAV takes 0.3 s on an idle core
_ALIVE_LIMIT = 60  # a demuxing or decoding pass may renew its deadline so often: no file keeps a decoder for ever
_ROOT = Path(__file__).resolve().parents[2]  # the folder that holds the package daemon
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV")  # no secret reaches a decoder


class DecoderProcess:
    """A decoding child. Requests are made one at a time; the caller sees to that."""

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._process: asyncio.subprocess.Process | None = None
        self._pidfd = -1  # a process id may be another's by the time a signal is sent
        self._socket: socket.socket | None = None
        self.failed = False
        self.refused_measures: list[str] = []
        self.decoder = ""
        self.clips = 0  # opened in it so far

    @property
    def is_running(self) -> bool:
        """Whether it can be asked: it has not failed, and has not ended while nobody asked."""
        return not self.failed and self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """The child's process id."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start the child and wait until it is confined; :class:`Transient` when it does not come up."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._socket = ours
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH", "")])])
        arguments = [str(theirs.fileno()), str(os.getpid()), str(self._memory_bytes)]
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-B", "-m", "daemon.decoding.child.worker", *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=environment,
            )
            self._pidfd = os.pidfd_open(self._process.pid)
        except ProcessLookupError as error:  # it ended before anybody could look
            raise Transient("the decoder died", reason=Reason.DECODER_DIED, origin="sampler") from error
        finally:
            theirs.close()
        ready, _ = await self._reply(_START_S)
        self.refused_measures, self.decoder = list(ready.get("refused", [])), str(ready.get("decoder", ""))

    async def ask(
        self, request: Header, descriptors: list[int], block: bytes, deadline_s: float
    ) -> tuple[Header, bytes]:
        """Send a request and return its answer.

        Raises :class:`Poison` as the child found it, :class:`Transient` when the child died, hung or is at a loss; it
        has ended then.
        """
        try:
            await self._send(request, descriptors, block)
        except (OSError, EOFError) as error:
            await self.end()
            raise Transient("the decoder died", reason=Reason.DECODER_DIED, origin="sampler") from error
        answer, data = await self._reply(deadline_s)
        if answer["kind"] == "poison":
            raise Poison(str(answer.get("reason")), str(answer.get("detail")))
        return answer, data

    def tell(self, request: Header) -> None:
        """Send a short request that has no answer, between two that have one. A dead child is not told."""
        if self._socket is not None and not self.failed:
            try:
                self._socket.send(pack(request))
            except OSError:
                self.failed = True

    async def end(self) -> None:
        """Kill the child, wait until it is gone, close the socket. May be called again."""
        self.failed = True
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None and self._process.returncode is None:
            # Popen.kill would reap a child that is dead already, under the eyes of asyncio's own watcher.
            # Without a descriptor it was gone before one could be opened, and only the watcher is waited for.
            with contextlib.suppress(ProcessLookupError):
                if self._pidfd >= 0:
                    signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            await self._process.wait()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def _connected(self) -> socket.socket:
        if self._socket is None:
            raise EOFError("the decoder was ended")
        return self._socket

    async def _send(self, request: Header, descriptors: list[int], block: bytes) -> None:
        connection = self._connected()
        data = pack(request, block)
        sent = socket.send_fds(connection, [data], descriptors)
        if sent < len(data):
            await asyncio.get_running_loop().sock_sendall(connection, memoryview(data)[sent:])

    async def _reply(self, deadline_s: float) -> tuple[Header, bytes]:
        """Wait for an answer; signs of life renew the deadline. Whatever goes wrong ends the child."""
        try:
            for _ in range(_ALIVE_LIMIT):
                async with asyncio.timeout(deadline_s):
                    answer, data = await self._receive()
                if answer.get("kind") == "fault":
                    raise Transient(f"the decoder is at a loss: {answer.get('detail')}", reason=Reason.DECODER_DIED)
                if answer.get("kind") != "alive":
                    return answer, data
            raise TimeoutError
        except TimeoutError:
            await self.end()
            detail = f"no answer from the decoder within {deadline_s:g} s"
            raise Transient(detail, reason=Reason.DECODE_DEADLINE, origin="sampler") from None
        except (OSError, EOFError, ValueError, KeyError) as error:
            await self.end()
            raise Transient("the decoder died", reason=Reason.DECODER_DIED, origin="sampler") from error
        except BaseException:
            await self.end()
            raise

    async def _receive(self) -> tuple[Header, bytes]:
        header_bytes, block_bytes = unpack_prefix(await self._read(PREFIX.size))
        return unpack_header(await self._read(header_bytes)), await self._read(block_bytes)

    async def _read(self, size_bytes: int) -> bytes:
        connection = self._connected()
        loop, data = asyncio.get_running_loop(), bytearray(size_bytes)
        view, at = memoryview(data), 0
        while at < size_bytes:
            got = await loop.sock_recv_into(connection, view[at:])
            if got == 0:
                raise EOFError
            at += got
        return bytes(data)
