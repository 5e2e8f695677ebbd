"""A proxy on loopback between a daemon and its broker, which knows requests from answers and loses them on demand.

It runs in a thread of its own; rows change how it treats traffic from outside. Kafka's messages are kept whole: each
is four bytes of length and the message, an answer names the request that it is for.
"""

import asyncio
import contextlib
import random
import struct
import threading
from collections.abc import Callable, Iterator

PRODUCE, OFFSET_COMMIT, END_TXN, TXN_OFFSET_COMMIT = 0, 8, 26, 28  # keys of Kafka's protocol
_ADD_PARTITIONS_TO_TXN, _ADD_OFFSETS_TO_TXN = 24, 25
WRITES = (PRODUCE, _ADD_PARTITIONS_TO_TXN, _ADD_OFFSETS_TO_TXN, END_TXN, TXN_OFFSET_COMMIT)  # what a sink asks for

_LENGTH = 4
_MESSAGES_ON_THE_WAY = 64


class Connection:
    """One client's connection, and the one to the broker behind it."""

    def __init__(self, client: asyncio.StreamWriter, broker: asyncio.StreamWriter) -> None:
        self.asked: dict[int, int] = {}  # the key of each request that has no answer yet, by its number
        self.is_stuck = False
        self._writers = (client, broker)

    def reset(self) -> None:
        """Break the connection on both sides, whatever is on its way."""
        for writer in self._writers:
            writer.transport.abort()


class Proxy:
    """Passes messages on from ``port`` to ``to_port`` until it is told otherwise."""

    def __init__(self, port: int, to_port: int, seed: int = 0) -> None:
        self.delay_s = 0.0  # of every answer
        self.reset_share = 0.0  # of all messages: these break their connection
        self.dropped = 0  # answers that were lost on demand
        self._port, self._to_port = port, to_port
        self._draw = random.Random(seed)
        self._connections: set[Connection] = set()
        self._to_drop: list[frozenset[int]] = []
        self._loop = asyncio.new_event_loop()
        self._passes = asyncio.Event()
        self._passes.set()
        self._silent_for: frozenset[int] = frozenset()  # the requests that do not pass; none named are all
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    @contextlib.contextmanager
    def serving(self) -> Iterator["Proxy"]:
        """Serve while this is open."""
        serves = threading.Event()
        self._loop.call_soon(lambda: self._loop.create_task(self._serve(serves)))
        self._thread.start()
        if not serves.wait(10):
            raise RuntimeError(f"the proxy can't listen on port {self._port}")
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)

    def silence(self, *keys: int) -> None:
        """Pass nothing on, in either direction: to both sides the network is gone.

        With ``keys`` only requests with one of these wait, and what their connections ask after them.
        """

        def change() -> None:
            self._silent_for = frozenset(keys)
            self._passes.clear()

        self._call(change)

    def speak(self) -> None:
        """Pass on what was held back, and what comes."""
        self._call(self._passes.set)

    def stick(self) -> None:
        """Leave the connections that are there half open: nothing passes on them any more, and nobody is told."""
        self._call(lambda: [setattr(each, "is_stuck", True) for each in self._connections])

    def drop_answer(self, *keys: int) -> None:
        """Lose the next answer to a request with one of these keys, and its connection with it."""
        self._call(lambda: self._to_drop.append(frozenset(keys)))

    def _call(self, change: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(change)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        for connection in self._connections:
            connection.reset()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _serve(self, serves: threading.Event) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        serves.set()
        async with server:
            await server.serve_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._to_port)
        except OSError:
            writer.transport.abort()
            return
        connection = Connection(writer, to_broker)
        self._connections.add(connection)
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._pass(connection, reader, to_broker, self._note_request))
                ways.create_task(self._pass(connection, from_broker, writer, self._is_answer_lost))
        except* OSError:  # one side is gone: so is the other
            pass
        finally:
            connection.reset()
            self._connections.discard(connection)

    async def _pass(
        self,
        connection: Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        is_lost: Callable[[Connection, bytes], bool],
    ) -> None:
        """Pass messages on, each as much later as it is told when it comes, so that a delay costs no throughput."""
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MESSAGES_ON_THE_WAY)
        async with asyncio.TaskGroup() as both:
            are_answers = is_lost == self._is_answer_lost
            both.create_task(self._write(connection, on_the_way, writer, are_answers=are_answers))
            while True:
                message = await _read(reader)
                delay_s = self.delay_s if are_answers else 0.0
                if is_lost(connection, message) or self._draw.random() < self.reset_share:
                    connection.reset()
                    raise ConnectionResetError
                await on_the_way.put((self._loop.time() + delay_s, message))

    async def _write(
        self,
        connection: Connection,
        on_the_way: asyncio.Queue[tuple[float, bytes]],
        writer: asyncio.StreamWriter,
        *,
        are_answers: bool,
    ) -> None:
        while True:
            due_s, message = await on_the_way.get()
            await asyncio.sleep(max(due_s - self._loop.time(), 0.0))
            if not self._silent_for or (not are_answers and _key(message) in self._silent_for):
                await self._passes.wait()
            if connection.is_stuck:
                await asyncio.Event().wait()
            writer.write(struct.pack(">i", len(message)) + message)
            await writer.drain()

    def _note_request(self, connection: Connection, message: bytes) -> bool:
        (number,) = struct.unpack_from(">i", message, 4)
        connection.asked[number] = _key(message)
        return False

    def _is_answer_lost(self, connection: Connection, message: bytes) -> bool:
        (number,) = struct.unpack_from(">i", message)
        key = connection.asked.pop(number, None)
        if self._to_drop and key in self._to_drop[0]:
            self._to_drop.pop(0)
            self.dropped += 1
            return True
        return False


def _key(request: bytes) -> int:
    return int.from_bytes(request[:2], "big")


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        (length,) = struct.unpack(">i", await reader.readexactly(_LENGTH))
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError as ended:
        raise ConnectionResetError from ended
