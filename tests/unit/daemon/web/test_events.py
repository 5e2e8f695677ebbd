"""Events over real sockets: what readers get, go on with and miss, and that slow ones hold nobody up."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from daemon.feed.recent import MOST_READERS
from daemon.web import connections, live
from daemon.web.server import StatusServer
from tests.page.showing import Shown, clip
from tests.unit.daemon.web.test_server import answer, send


@contextlib.asynccontextmanager
async def serving(shown: Shown) -> AsyncIterator[int]:
    server = StatusServer(shown.app, "127.0.0.1:0", beside=shown.live)
    await server.start()
    try:
        yield server.port
    finally:
        await server.close()


async def follow(port: int, last: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    more = f"Last-Event-ID: {last}\r\n" if last else ""
    return await send(port, f"GET /events HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode())


async def events(reader: asyncio.StreamReader) -> AsyncIterator[tuple[str, str, Any]]:
    """Yield each event's id, kind and data."""
    found: dict[str, str] = {}
    while line := (await reader.readline()).decode().rstrip("\r\n"):  # the headers
        del line
    async for raw in reader:
        name, colon, value = raw.decode().rstrip("\r\n").partition(": ")
        if colon:
            found[name] = value
        elif "data" in found:
            yield found.get("id", ""), found["event"], json.loads(found["data"])
            found = {}


async def entries(reader: asyncio.StreamReader, count: int) -> list[tuple[str, str]]:
    """Return the ids and texts of the next entries."""
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(60):
        async for identity, kind, data in events(reader):
            if kind == "entry":
                found.append((identity, data["message"]["text"]))
                if len(found) == count:
                    break
    return found


async def test_what_is_published_comes_and_a_reader_goes_on_where_it_was() -> None:
    shown = Shown()
    shown.publish(clip(), "0", "1")
    async with serving(shown) as port:
        reader, writer = await follow(port)
        first = asyncio.create_task(entries(reader, 3))
        await asyncio.sleep(0)
        shown.publish(clip(), "2", first=2)
        seen = await first
        writer.close()
        shown.publish(clip(), "3", first=3)
        reader, writer = await follow(port, seen[-1][0])
        later = await entries(reader, 1)
        writer.close()

    assert [text for _, text in seen] == ["0", "1", "2"]
    assert [text for _, text in later] == ["3"]


async def test_an_id_of_another_run_means_nothing() -> None:
    shown = Shown()
    shown.publish(clip(), "0", "1")
    async with serving(shown) as port:
        reader, writer = await follow(port, "00000000-1")
        seen = await entries(reader, 2)
        writer.close()

    assert [text for _, text in seen] == ["0", "1"]


async def test_what_a_reader_missed_is_counted() -> None:
    shown = Shown(keep=5)
    shown.publish(clip(), "0")
    async with serving(shown) as port:
        reader, writer = await follow(port, f"{shown.feed.epoch}-1")
        shown.publish(clip(), *(str(number) for number in range(1, 11)), first=1)
        async with asyncio.timeout(60):
            missed = next_missed = None
            async for _, kind, data in events(reader):
                if kind == "missed":
                    missed = data
                elif kind == "entry":
                    next_missed = data["message"]["text"]
                    break
        writer.close()

    assert (missed, next_missed) == (5, "6")


async def test_the_state_is_told_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "STATE_S", 0.2)
    shown = Shown()
    async with serving(shown) as port:
        reader, writer = await follow(port)
        async with asyncio.timeout(60):
            told = []
            async for _, kind, data in events(reader):
                told.append((kind, data))
                if len(told) == 3:
                    break
        writer.close()

    (hello, first), (state, second), (again, _) = told
    assert (hello, state, again) == ("hello", "state", "state")
    assert (first["may"], first["keep"], first["stay"]) == (False, 1000, ["inbox"])
    assert second["lag"] == 7
    assert second["bottleneck"] == "7 clips wait to be taken."


async def test_slow_readers_hold_nobody_up() -> None:
    """As many readers as there may be read nothing; publishing goes on, in bounded memory, and all else is answered."""
    shown = Shown(keep=200)
    async with serving(shown) as port:
        slow = [await follow(port) for _ in range(MOST_READERS)]
        while len(shown.feed.readers) < MOST_READERS:
            await asyncio.sleep(0.01)
        begun_s = time.thread_time()
        for index in range(200):
            shown.publish(clip(), "x" * 20_000, first=index)
            await asyncio.sleep(0)
        spent_s = time.thread_time() - begun_s
        await asyncio.sleep(1.0)  # their connections fill
        alive = await answer(port, "Host: localhost")
        refused = await follow(port)
        said = await refused[0].readline()
        for _, writer in slow:
            writer.transport.abort()
        while shown.feed.readers:
            await asyncio.sleep(0.01)
        reader, writer = await follow(port, f"{shown.feed.epoch}-199")
        seen = await entries(reader, 1)
        writer.close()
        refused[1].close()

    assert alive == "HTTP/1.1 200 OK"
    assert said.startswith(b"HTTP/1.1 503")
    assert len(seen) == 1
    assert spent_s < 60


async def test_a_reader_that_reads_stays_and_one_that_does_not_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LIFETIME_S", 0.3)
    shown = Shown(keep=400)
    async with serving(shown) as port:
        good, bad = await follow(port), await follow(port)
        while len(shown.feed.readers) < 2:
            await asyncio.sleep(0.01)
        reading = asyncio.create_task(entries(good[0], 401))
        for index in range(400):
            shown.publish(clip(), "x" * 30_000, first=index)
            await asyncio.sleep(0)
        while len(shown.feed.readers) == 2:  # 12 MB are more than the buffers of both ends hold
            await asyncio.sleep(0.05)
        shown.publish(clip(), "the last", first=400)
        seen = await reading
        for _, writer in (good, bad):
            writer.close()

    assert seen[-1][1] == "the last"


async def test_a_stop_waits_for_no_reader() -> None:
    shown = Shown()
    async with serving(shown) as port:
        reader, writer = await follow(port)
        await reader.readline()
        begun_s = time.monotonic()
    took_s = time.monotonic() - begun_s
    writer.close()

    assert took_s < 60


async def test_readers_take_no_place_from_probes() -> None:
    shown = Shown()
    async with serving(shown) as port:
        readers = [await follow(port) for _ in range(MOST_READERS)]
        while len(shown.feed.readers) < MOST_READERS:
            await asyncio.sleep(0.01)
        held = [await send(port, b"") for _ in range(connections.LIMIT + 10)]
        alive = await answer(port, "Host: localhost")
        still = len(shown.feed.readers)
        for _, writer in (*readers, *held):
            writer.close()

    assert (alive, still) == ("HTTP/1.1 200 OK", MOST_READERS)
