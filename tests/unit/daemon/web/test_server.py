"""The status server over real sockets: half requests, idle connections, peers that do not read, wrong names."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from daemon.web import connections, server
from daemon.web.server import StatusServer

OURS = (
    "localhost LOCALHOST:8480 127.0.0.1 127.0.0.1:9 [::1] [::1]:80 [0:0:0:0:0:0:0:1] a.example.org a.example.org.:8480"
)
STRANGERS = (
    "evil.example evil.example:8480 localhost.evil.example 127.0.0.1.evil.example 10.0.0.1 evil.example#127.0.0.1 "
    "localhost@evil.example [::2] [::1]evil :8480 localhost:80:80"
)
LARGE = "x" * 20_000_000  # more than the buffers of both ends hold


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(LARGE if scope["path"] == "/large" else "alive\n")(scope, receive, send)


@contextlib.asynccontextmanager
async def serving(application: ASGIApp = app, hosts: Sequence[str] = ()) -> AsyncIterator[int]:
    server = StatusServer(application, "127.0.0.1:0", hosts)
    await server.start()
    try:
        yield server.port
    finally:
        await server.close()


async def send(port: int, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection, send what may be half a request, and leave it open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    await writer.drain()
    return reader, writer


async def answer(port: int, *headers: str, version: str = "1.1") -> str:
    """Return the first line of the answer to a request with these headers."""
    lines = ["GET /livez HTTP/" + version, *headers, "Connection: close", "", ""]
    reader, writer = await send(port, "\r\n".join(lines).encode())
    async with asyncio.timeout(60):
        said = await reader.read()
    writer.close()
    return said.decode().partition("\r\n")[0]


async def test_half_requests_keep_nobody_from_an_answer() -> None:
    async with serving() as port:
        held = [await send(port, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n") for _ in range(70)]

        answers = [await answer(port, "Host: localhost") for _ in range(3)]

        for _, writer in held:
            writer.close()
    assert answers == ["HTTP/1.1 200 OK"] * 3


async def test_no_more_connections_are_open_than_the_limit() -> None:
    async with serving() as port:
        held = [await send(port, b"") for _ in range(connections.LIMIT + 40)]

        def ended_now() -> list[bool]:
            return [reader.at_eof() or reader.exception() is not None for reader, _ in held]

        while sum(ended_now()) < 40:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # nor does another follow
        ended = ended_now()

        for _, writer in held:
            writer.close()
    assert ended == [True] * 40 + [False] * connections.LIMIT


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /livez HTTP/1.1\r\nHost: loc",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /livez HTT",  # the second on the same connection
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf a body",
    ],
)
async def test_what_is_not_finished_is_ended(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LIFETIME_S", 0.3)
    monkeypatch.setattr(server, "KEEP_ALIVE_S", 1000)  # the pause between two requests is not what ends it
    async with serving() as port:
        with contextlib.suppress(ConnectionError):
            reader, writer = await send(port, sent)
            await reader.read()
        writer.close()


async def test_a_peer_that_sends_a_byte_now_and_then_is_ended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LIFETIME_S", 0.3)
    async with serving() as port:
        reader, writer = await send(port, b"GET /livez HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(b"A: b\r\n")
                await writer.drain()
                await asyncio.sleep(0.05)
        writer.close()


async def test_a_peer_that_does_not_read_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LIFETIME_S", 1000.0)
    async with serving() as port:
        _, writer = await send(port, b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.sleep(0.2)
        begun_s = time.monotonic()
    took_s = time.monotonic() - begun_s
    writer.transport.abort()

    assert took_s < 60


@pytest.mark.slow
async def test_an_idle_connection_is_closed_and_a_second_request_is_answered_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "LIFETIME_S", 1000.0)  # the pause between two requests ends it
    async with serving() as port:
        request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
        reader, writer = await send(port, request)
        await reader.readuntil(b"alive\n")
        writer.write(request)
        await reader.readuntil(b"alive\n")
        assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("host", OURS.split())
async def test_names_of_this_machine_and_of_the_configuration_are_answered(host: str) -> None:
    async with serving(hosts=["A.example.org"]) as port:
        assert await answer(port, f"Host: {host}") == "HTTP/1.1 200 OK"


@pytest.mark.parametrize("host", ["", *STRANGERS.split()])
async def test_other_names_are_not_answered(host: str) -> None:
    async with serving() as port:
        assert await answer(port, f"Host: {host}") in (
            "HTTP/1.1 421 Misdirected Request",
            "HTTP/1.1 400 Bad Request",
        )


async def test_two_names_are_one_too_many() -> None:
    async with serving() as port:
        said = await answer(port, "Host: localhost", "Host: evil.example")

    assert said == "HTTP/1.1 400 Bad Request"


async def test_a_probe_without_a_name_is_answered() -> None:
    async with serving() as port:
        assert await answer(port, version="1.0") == "HTTP/1.1 200 OK"


async def test_nothing_is_upgraded() -> None:
    upgrade = (
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    async with serving() as port:
        reader, writer = await send(port, upgrade)
        said = await reader.readuntil(b"alive\n")
        writer.close()

    assert said.startswith(b"HTTP/1.1 200 OK")
