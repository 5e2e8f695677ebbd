"""The status pages, over HTTP, and `captiond status`."""

import asyncio

import httpx
import pytest

from connectors.errors import ConfigurationError
from daemon.commands import status
from daemon.service.health import Phase
from daemon.service.watchdog import Watchdog
from daemon.web.pages import build_app
from daemon.web.server import StatusServer
from tests.unit.daemon.running_parts import Heard, Parts


@pytest.fixture
def parts() -> Parts:
    return Parts()


@pytest.fixture
def watchdog(parts: Parts) -> Watchdog:
    return Watchdog(parts.health, Heard(), 180.0, 60.0, parts.clock)


@pytest.fixture
def pages(parts: Parts, watchdog: Watchdog) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(build_app(parts.health, watchdog))
    return httpx.AsyncClient(transport=transport, base_url="http://status")


async def test_ready_while_clips_are_captioned(parts: Parts, pages: httpx.AsyncClient) -> None:
    starting = await pages.get("/readyz")
    parts.health.phase = Phase.READY
    ready = await pages.get("/readyz")
    parts.route.waiting_for = "the broker: it takes no connection"
    waiting = await pages.get("/readyz")

    assert (starting.status_code, starting.text) == (503, "starting\n")
    assert (ready.status_code, ready.text) == (200, "ready\n")
    assert (waiting.status_code, waiting.text) == (503, "inbox waits for the broker: it takes no connection\n")


async def test_alive_while_there_is_progress(parts: Parts, watchdog: Watchdog, pages: httpx.AsyncClient) -> None:
    alive = await pages.get("/livez")
    with parts.metrics.in_engine():
        watchdog.look()
        parts.clock.now_s += 180.0
        watchdog.look()
    stalled = await pages.get("/livez")

    assert (alive.status_code, stalled.status_code) == (200, 503)
    assert stalled.text == "the engine stands still\n"


async def test_metrics_say_what_they_are(pages: httpx.AsyncClient) -> None:
    answer = await pages.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE captiond_ready gauge\ncaptiond_ready 0.0\n" in answer.text


async def test_the_page_escapes_what_it_shows(parts: Parts, pages: httpx.AsyncClient) -> None:
    parts.health.phase = Phase.READY
    parts.route.waiting_for = "<script>alert(1)</script>"

    answer = await pages.get("/")

    assert "&lt;script&gt;" in answer.text
    assert "<script" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/status.json", "/"])
async def test_nothing_takes_orders(pages: httpx.AsyncClient, path: str) -> None:
    assert (await pages.post(path)).status_code == 405


async def test_a_real_server_beside_the_loop(parts: Parts, watchdog: Watchdog) -> None:
    parts.health.phase = Phase.READY
    server = StatusServer(build_app(parts.health, watchdog), "127.0.0.1:0")
    await server.start()
    try:
        found = await asyncio.to_thread(status.fetch, f"127.0.0.1:{server.port}")
    finally:
        await server.close()

    assert (found["ready"], found["model"]) == (True, "fake")
    with pytest.raises(status.NoAnswer):
        await asyncio.to_thread(status.fetch, f"127.0.0.1:{server.port}")


async def test_an_address_that_is_taken_is_an_error_of_the_configuration(parts: Parts, watchdog: Watchdog) -> None:
    first = StatusServer(build_app(parts.health, watchdog), "127.0.0.1:0")
    await first.start()
    second = StatusServer(build_app(parts.health, watchdog), f"127.0.0.1:{first.port}")
    try:
        with pytest.raises(ConfigurationError, match=r"http\.listen: 127\.0\.0\.1:\d+ can't be listened on"):
            await second.start()
    finally:
        await first.close()


def test_status_in_a_terminal(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts.health.phase = Phase.READY
    parts.metrics.clip_taken("inbox", 10)
    snapshot = parts.health.snapshot()
    monkeypatch.setattr(status, "fetch", lambda _: snapshot)

    code = status.show("127.0.0.1:1")

    said = capsys.readouterr().out
    assert code == 0
    assert "model fake" in said
    assert "inbox" in said


def test_status_of_a_daemon_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert status.show("127.0.0.1:1") == 1
    assert "no daemon answers at 127.0.0.1:1" in capsys.readouterr().err
