"""A decoding child as the program sees it: started, asked, ended. A child that fails once is never asked again."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from typing import TypeVar

from connectors.errors import ConfigurationError, Poison, Reason, Transient
from connectors.messages.safe_text import clean_line
from daemon.decoding.fields import Data
from daemon.decoding.fork_server import DecoderRequest, Forked, ForkServer, Launched, has_ended, wait_for_end
from daemon.decoding.protocol import (
    ANSWERS,
    MAX_SMALL_INDEX_BYTES,
    PREFIX,
    Alive,
    Announced,
    Answer,
    Fault,
    Poisoned,
    Ready,
    Request,
    announce,
    pack,
    unpack_answer,
    unpack_prefix,
)

_READ_BYTES = 64 * 2**10  # at once; a block that is larger is read into its place
_START_S = 30.0  # closing the cage takes some milliseconds on an idle core

Expected = TypeVar("Expected", bound=Answer)


class DecoderProcess:
    """A decoding child. Requests are made one at a time; the caller sees to that."""

    def __init__(self, server: ForkServer, request: DecoderRequest) -> None:
        self._server, self._request = server, request
        self._forked: Forked | None = None
        self._socket: socket.socket | None = None
        self._received = bytearray()  # of its answers, and not read yet
        self.failed = False
        self.layers: dict[str, str] = {}  # of the cage, each with the reason where it is missing
        self.decoder = ""
        self.device_fault = ""  # why no graphics card decodes, where one was asked for
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
            self._forked = await self._server.fork(self._request, theirs)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            raise Transient("the decoder died", reason=Reason.DECODER_DIED, origin="sampler") from error
        finally:
            theirs.close()
        ready, _ = await self._reply(Ready, _START_S, lambda: None, 0)
        if isinstance(ready, Poisoned):
            await self.end()
            raise Transient("the decoder died", reason=Reason.DECODER_DIED, origin="sampler")
        self.layers, self.decoder = dict(zip(ready.layers, ready.missing, strict=False)), ready.decoder
        self.device_fault = ready.device_fault
        if not ready.confined:
            await self.end()
            raise ConfigurationError(unconfined(self.missing_layers), path="limits.sandbox")

    async def ask(
        self,
        request: Request,
        expected: type[Expected],
        descriptors: list[int],
        block: Data,
        deadline_s: float,
        alive: Callable[[], None],
        room_bytes: int = MAX_SMALL_INDEX_BYTES,
    ) -> tuple[Expected, Data]:
        """Send a request and return its answer. ``alive`` is called at each sign of life, and may raise to end it.

        There is room for ``room_bytes`` of the answer's block: a child that announces more makes no sense.

        Raises :class:`Poison` as the child found it, :class:`Transient` when the child died, hung, is at a loss or
        answers something that is not due; it has ended then.
        """
        try:
            await self._send(request, descriptors, block)
        except (OSError, EOFError) as error:
            await self.end()
            raise Transient("the decoder died", reason=Reason.DECODER_DIED, origin="sampler") from error
        return await self.next_answer(expected, deadline_s, alive, room_bytes)

    async def next_answer(
        self,
        expected: type[Expected],
        deadline_s: float,
        alive: Callable[[], None],
        room_bytes: int = MAX_SMALL_INDEX_BYTES,
    ) -> tuple[Expected, Data]:
        """Return the next answer to a request that has several; the first one is what :meth:`ask` returns."""
        answer, data = await self._reply(expected, deadline_s, alive, room_bytes)
        if isinstance(answer, Poisoned):
            raise Poison(answer.reason, answer.detail)
        return answer, data

    def tell(self, request: Request) -> None:
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

    async def _send(self, request: Request, descriptors: list[int], block: Data) -> None:
        connection = self._connected()
        data = announce(request, len(block))
        sent = socket.send_fds(connection, [data], descriptors)
        for part in (memoryview(data)[sent:], memoryview(block)):
            await asyncio.get_running_loop().sock_sendall(connection, part)

    async def _reply(
        self, expected: type[Expected], deadline_s: float, alive: Callable[[], None], room_bytes: int
    ) -> tuple[Expected | Poisoned, Data]:
        """Wait for an answer; signs of life renew the deadline. Whatever goes wrong ends the child."""
        try:
            while True:
                async with asyncio.timeout(deadline_s):
                    announced = unpack_prefix(await self._read(PREFIX.size), ANSWERS)
                    answer = accept(announced, await self._read(announced.header_bytes), expected, room_bytes)
                    data = await self._read(announced.block_bytes)
                if answer is not None:
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

    async def _read(self, size_bytes: int) -> bytearray:
        connection = self._connected()
        loop = asyncio.get_running_loop()
        while len(self._received) < size_bytes <= _READ_BYTES:  # several answers may come at once
            got = await loop.sock_recv(connection, _READ_BYTES)
            if not got:
                raise EOFError
            self._received += got
        data = self._received[:size_bytes]
        del self._received[:size_bytes]
        at = len(data)
        data += bytes(size_bytes - at)
        view = memoryview(data)
        while at < size_bytes:
            count = await loop.sock_recv_into(connection, view[at:])
            if count == 0:
                raise EOFError
            at += count
        return data


def unconfined(missing: dict[str, str]) -> str:
    """Return the sentence about layers of the cage that this machine does not have."""
    layers = ", ".join(f"{name} ({reason})" for name, reason in sorted(missing.items()))
    return f"decoders can't be confined on this machine, it lacks {layers}; write best to run them all the same"


def accept(announced: Announced, header: Data, expected: type[Expected], room_bytes: int) -> Expected | Poisoned | None:
    """Return the answer that is due or why there is none, None for a sign of life; its texts are clean single lines.

    ``ValueError`` for anything else, :class:`Transient` where the child is at a loss.
    """
    if announced.block_bytes > room_bytes:
        raise ValueError(f"a block of {announced.block_bytes} bytes, and there is room for {room_bytes}")
    answer = unpack_answer(announced, header, clean_line)
    if isinstance(answer, Fault):
        raise Transient(f"the decoder is at a loss: {answer.detail}", reason=Reason.DECODER_DIED)
    if isinstance(answer, (expected, Poisoned)):
        return answer
    if isinstance(answer, Alive):
        return None
    raise ValueError(f"the decoder answers {type(answer).__name__} where something else is due")


async def try_cage(memory_bytes: int, *, required: bool, launched: Launched | None = None) -> dict[str, str]:
    """Start a decoder and return the layers of its cage, each with the reason where it is missing."""
    server = ForkServer(launched)
    child = DecoderProcess(server, DecoderRequest(memory_bytes, required))
    try:
        await child.start()
        return child.layers
    finally:
        await child.end()
        await server.close()
