"""A decoding child as the program sees it: started, asked, ended. A child that fails once is never asked again."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable

from connectors.errors import ConfigurationError, Poison, Reason, Transient
from connectors.messages.safe_text import clean_line
from daemon.decoding.fork_server import DecoderRequest, Forked, ForkServer, has_ended, wait_for_end
from daemon.decoding.protocol import MAX_ANSWER_HEADER_BYTES, PREFIX, Header, pack, unpack_header, unpack_prefix

_START_S = 30.0  # the fork server imports numpy and PyAV, 0.3 s on an idle core, before it forks the first
_MAX_DETAIL_CHARS = 500


class DecoderProcess:
    """A decoding child. Requests are made one at a time; the caller sees to that."""

    def __init__(self, server: ForkServer, request: DecoderRequest) -> None:
        self._server, self._request = server, request
        self._forked: Forked | None = None
        self._socket: socket.socket | None = None
        self.failed = False
        self.layers: dict[str, str] = {}  # of the cage, each with the reason where it is missing
        self.decoder = ""
        self.clips = 0  # opened in it so far

    @property
    def is_running(self) -> bool:
        """Whether it can be asked: it has not failed, and has not ended while nobody asked."""
        return not self.failed and self._forked is not None and not has_ended(self._forked.pidfd)

    @property
    def pid(self) -> int | None:
        """The child's process id."""
        return self._forked.pid if self._forked is not None else None

    @property
    def missing_layers(self) -> dict[str, str]:
        """The layers of the cage that this machine does not have, each with the reason."""
        return {name: reason for name, reason in self.layers.items() if reason}

    async def start(self) -> None:
        """Start the child and wait until its cage is closed.

        Raises :class:`Transient` when it does not come up, and :class:`ConfigurationError` when the machine lacks a
        layer of the cage that the configuration requires.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._socket = ours
        try:
            async with asyncio.timeout(_START_S):
                self._forked = await self._server.fork(self._request, theirs)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            raise Transient("the decoder died", reason=Reason.DECODER_DIED, origin="sampler") from error
        finally:
            theirs.close()
        ready, _ = await self._reply(_START_S, lambda: None)
        layers = ready.get("layers")
        self.layers = {_cleaned(k): _cleaned(v) for k, v in layers.items()} if isinstance(layers, dict) else {}
        self.decoder = _cleaned(ready.get("decoder", ""))
        if ready["kind"] == "unconfined":
            await self.end()
            raise ConfigurationError(unconfined(self.missing_layers), path="limits.sandbox")

    async def ask(
        self, request: Header, descriptors: list[int], block: bytes, deadline_s: float, alive: Callable[[], None]
    ) -> tuple[Header, bytes]:
        """Send a request and return its answer. ``alive`` is called at each sign of life, and may raise to end it.

        Raises :class:`Poison` as the child found it, :class:`Transient` when the child died, hung or is at a loss; it
        has ended then.
        """
        try:
            await self._send(request, descriptors, block)
        except (OSError, EOFError) as error:
            await self.end()
            raise Transient("the decoder died", reason=Reason.DECODER_DIED, origin="sampler") from error
        answer, data = await self._reply(deadline_s, alive)
        if answer["kind"] == "poison":
            raise Poison(Reason(answer["reason"]), _cleaned(answer.get("detail")))
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
        forked = self._forked
        if forked is not None and forked.pidfd >= 0:
            self._forked = Forked(forked.pid, -1)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(forked.pidfd, signal.SIGKILL)
            try:
                await wait_for_end(forked.pidfd)
            finally:
                os.close(forked.pidfd)

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

    async def _reply(self, deadline_s: float, alive: Callable[[], None]) -> tuple[Header, bytes]:
        """Wait for an answer; signs of life renew the deadline. Whatever goes wrong ends the child."""
        try:
            while True:
                async with asyncio.timeout(deadline_s):
                    answer, data = await self._receive()
                kind = answer["kind"]
                if kind == "fault":
                    detail = f"the decoder is at a loss: {_cleaned(answer.get('detail'))}"
                    raise Transient(detail, reason=Reason.DECODER_DIED)
                if kind == "poison":
                    Reason(answer["reason"])  # whoever makes reasons up was taken over
                if kind != "alive":
                    return answer, data
                alive()
        except TimeoutError:
            await self.end()
            detail = f"no answer from the decoder within {deadline_s:g} s"
            raise Transient(detail, reason=Reason.DECODE_DEADLINE, origin="sampler") from None
        except (Transient, Poison):
            await self.end()
            raise
        except Exception as error:  # a child that was taken over may answer anything, and takes nobody along
            await self.end()
            raise Transient("the decoder died", reason=Reason.DECODER_DIED, origin="sampler") from error
        except BaseException:
            await self.end()
            raise

    async def _receive(self) -> tuple[Header, bytes]:
        prefix = await self._read(PREFIX.size)
        header_bytes, block_bytes = unpack_prefix(prefix, MAX_ANSWER_HEADER_BYTES)
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


def unconfined(missing: dict[str, str]) -> str:
    """Return the sentence about layers of the cage that this machine does not have."""
    layers = ", ".join(f"{name} ({reason})" for name, reason in sorted(missing.items()))
    return f"decoders can't be confined on this machine, it lacks {layers}; write best to run them all the same"


def _cleaned(text: object) -> str:
    """Return what a child says as one line that can be shown."""
    return str(clean_line(text if isinstance(text, str) else repr(text)[:_MAX_DETAIL_CHARS]))[:_MAX_DETAIL_CHARS]


async def try_cage(memory_bytes: int, *, required: bool) -> dict[str, str]:
    """Start a decoder and return the layers of its cage, each with the reason where it is missing."""
    server = ForkServer()
    child = DecoderProcess(server, DecoderRequest(memory_bytes, required))
    try:
        await child.start()
        return child.layers
    finally:
        await child.end()
        await server.close()
