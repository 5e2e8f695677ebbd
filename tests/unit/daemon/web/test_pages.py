"""The status pages, over HTTP, and `captiond status`."""

import asyncio
import re

import httpx
import pytest

from connectors.errors import ConfigurationError
from daemon.commands import status
from daemon.service.health import Phase
from daemon.web.server import StatusServer
from tests.page.showing import Shown, clip
from tests.unit.daemon.running_parts import Parts


@pytest.fixture
def shown() -> Shown:
    shown = Shown()
    shown.parts.health.phase = Phase.STARTING
    return shown


@pytest.fixture
def parts(shown: Shown) -> Parts:
    return shown.parts


@pytest.fixture
def pages(shown: Shown) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(shown.app), base_url="http://status")


async def test_ready_while_clips_are_captioned(parts: Parts, pages: httpx.AsyncClient) -> None:
    starting = await pages.get("/readyz")
    parts.health.phase = Phase.READY
    ready = await pages.get("/readyz")
    parts.route.waiting_for = "the broker: it takes no connection"
    waiting = await pages.get("/readyz")

    assert (starting.status_code, starting.text) == (503, "starting\n")
    assert (ready.status_code, ready.text) == (200, "ready\n")
    assert (waiting.status_code, waiting.text) == (503, "inbox waits for the broker: it takes no connection\n")


async def test_alive_while_there_is_progress(shown: Shown, parts: Parts, pages: httpx.AsyncClient) -> None:
    watchdog = shown.watchdog
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


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/page.css", "text/css"),
        ("/page.js", "text/javascript"),
        ("/captions.js", "text/javascript"),
        ("/icon.svg", "image/svg+xml"),
    ],
)
async def test_the_page_is_files_of_its_own_under_a_strict_policy(
    pages: httpx.AsyncClient, path: str, kind: str
) -> None:
    answer = await pages.get(path)

    policy = answer.headers["content-security-policy"]
    assert (answer.status_code, answer.headers["content-type"]) == (200, f"{kind}; charset=utf-8")
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<style|<script(?! type=\"module\" src=)|style=|\son\w+=", answer.text) or path != "/"


async def test_the_page_holds_no_text_of_others(parts: Parts, shown: Shown, pages: httpx.AsyncClient) -> None:
    parts.route.waiting_for = "<script>alert(1)</script>"
    before = (await pages.get("/")).text
    shown.publish(clip("<b>.mp4"), "<img src=x onerror=alert(1)>")

    assert (await pages.get("/")).text == before
    assert "alert(1)" not in before


@pytest.mark.parametrize(
    "path", ["/livez", "/readyz", "/metrics", "/status.json", "/", "/events", "/page.js", "/strips/1"]
)
async def test_nothing_takes_orders(pages: httpx.AsyncClient, path: str) -> None:
    assert (await pages.post(path)).status_code == 405


async def test_a_real_server_beside_the_loop(shown: Shown, parts: Parts) -> None:
    parts.health.phase = Phase.READY
    server = StatusServer(shown.app, "127.0.0.1:0")
    await server.start()
    try:
        found = await asyncio.to_thread(status.fetch, f"127.0.0.1:{server.port}")
    finally:
        await server.close()

    assert (found["ready"], found["model"]) == (True, "fake")
    with pytest.raises(status.NoAnswer):
        await asyncio.to_thread(status.fetch, f"127.0.0.1:{server.port}")


async def test_an_address_that_is_taken_is_an_error_of_the_configuration(shown: Shown) -> None:
    first = StatusServer(shown.app, "127.0.0.1:0")
    await first.start()
    second = StatusServer(shown.app, f"127.0.0.1:{first.port}")
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
