"""A proxy on loopback between Kafka's clients and the broker that can be slow, deaf, forgetful or gone.

It forwards whole messages of Kafka's protocol (a length, then so many bytes), so a fault strikes one request or answer.
"""

import asyncio
import contextlib
import random
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

PRODUCE, END_TRANSACTION = 0, 26  # numbers of Kafka's requests

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """Listens while it is open. The faults are attributes that may change at any time, from any thread.

    ``latency_s`` is added to each round trip. ``reset_rate`` is how often a message ends its connection instead, and
    ``half_open_rate`` how often its connection stays open and says nothing from then on. While ``is_deaf`` everything
    is accepted and nothing forwarded. Requests of the kinds in ``held`` wait until they are in it no more.
    """

    def __init__(self, port: int, broker_port: int, *, seed: int = 0) -> None:
        self.latency_s = self.reset_rate = self.half_open_rate = 0.0
        self.is_deaf = False
        self.held: frozenset[int] = frozenset()
        self.lost_answers = 0
        self._lose: list[int] = []
        self._port, self._broker_port, self._draw = port, broker_port, random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    def __enter__(self) -> "Proxy":
        self._thread.start()
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def listen(self) -> None:
        """Accept connections."""
        self._call(self._listen())

    def refuse(self) -> None:
        """End all connections and accept none, as a host does whose broker is gone."""
        self._call(self._refuse())

    def lose_answer(self, kind: int) -> None:
        """Let the broker do the next request of this kind, and end the connection instead of handing its answer on."""
        self._loop.call_soon_threadsafe(self._lose.append, kind)

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
        self._server = None
        gone = list(self._connections)
        for connection in gone:
            connection.cancel()
        await asyncio.gather(*gone, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            broker = await asyncio.open_connection("127.0.0.1", self._broker_port)
            await _Connection(self, (reader, writer), broker).run()
        except OSError:
            pass  # the broker is not there
        except asyncio.CancelledError:
            pass  # refused from now on
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    def loses(self, kind: int) -> bool:
        """Tell whether the answer to this request is to be lost; each order counts once."""
        if kind in self._lose:
            self._lose.remove(kind)
            return True
        return False

    def chance(self, rate: float) -> bool:
        """Draw."""
        return rate > 0 and self._draw.random() < rate


class _Connection:
    """One client's connection and the broker's behind it."""

    def __init__(self, proxy: Proxy, client: _Streams, broker: _Streams) -> None:
        self._proxy, self._client, self._broker = proxy, client, broker
        self._lost: set[int] = set()  # numbers of the requests whose answers are not handed on
        self._is_half_open = False

    async def run(self) -> None:
        """Forward both ways until one of them ends."""
        ways = [
            asyncio.create_task(self._forward(self._client[0], self._broker[1], self._on_request)),
            asyncio.create_task(self._forward(self._broker[0], self._client[1], self._on_answer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._broker[1].transport.abort()
            self._client[1].transport.abort()

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        look: Callable[[bytes], Awaitable[bool]],
    ) -> None:
        """Forward message after message; each may be late without holding up those behind it any longer."""
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sending = asyncio.create_task(self._send(line, writer))
        clock = asyncio.get_running_loop().time
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while not sending.done():
                    head = await reader.readexactly(4)
                    message = await reader.readexactly(struct.unpack(">i", head)[0])
                    if not await look(message):
                        return
                    line.put_nowait((clock() + self._proxy.latency_s / 2, head + message))
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, line: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter) -> None:
        while True:
            at_s, message = await line.get()
            await asyncio.sleep(max(at_s - asyncio.get_running_loop().time(), 0))
            if not (self._proxy.is_deaf or self._is_half_open):
                writer.write(message)
                await writer.drain()

    async def _on_request(self, message: bytes) -> bool:
        kind, _, number = struct.unpack_from(">hhi", message)
        if self._proxy.loses(kind):
            self._lost.add(number)
        while kind in self._proxy.held:
            await asyncio.sleep(0.05)
        return self._survives()

    async def _on_answer(self, message: bytes) -> bool:
        (number,) = struct.unpack_from(">i", message)
        if number in self._lost:
            self._proxy.lost_answers += 1
            return False
        return self._survives()

    def _survives(self) -> bool:
        self._is_half_open = self._is_half_open or self._proxy.chance(self._proxy.half_open_rate)
        return not self._proxy.chance(self._proxy.reset_rate)
