"""Engines over servers in memory, with short pauses between tries."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
import pytest_asyncio

from daemon.config.engine_settings import OpenAISettings
from daemon.engines.openai import engine as remote_engine
from daemon.engines.openai.engine import RemoteEngine
from tests.unit.daemon.engines.openai.chat_servers import Servers
from tests.unit.daemon.engines.openai.video_servers import Network, Start, Stub


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_engine, "_BACK_OFF_S", (0.01, 0.02))


@pytest.fixture
def servers() -> Servers:
    return Servers()


@pytest_asyncio.fixture
async def start(short_pauses: None) -> AsyncIterator[Start]:
    """Return what starts an engine over stubs; it is closed after the test."""
    async with AsyncExitStack() as stack:

        async def started(*stubs: Stub, **changes: Any) -> RemoteEngine:
            network = Network({f"server{number}": stub for number, stub in enumerate(stubs)})
            urls = tuple(f"http://{host}/v1" for host in network.servers)
            settings = OpenAISettings(**{"base_urls": urls, "model": "shapes", "slots": 16, **changes})
            engine = RemoteEngine(settings, request_deadline_s=5.0, transport=httpx.MockTransport(network))
            stack.push_async_callback(engine.close)
            await engine.start()
            return engine

        yield started
