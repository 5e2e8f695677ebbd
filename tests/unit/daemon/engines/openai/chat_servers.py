"""Two servers in memory, what they answer, and an engine over both."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx

from daemon.config.engine_settings import OpenAISettings
from daemon.engines.openai.engine import RemoteEngine
from daemon.prompts.prompt import Prompt
from tests.windows_of_noise import noise

URLS = ("http://one/v1", "http://two/v1/")
ASK = Prompt("What is shown?", max_tokens=8)
WINDOW = noise(2, 6, 8)


class Servers:
    """Two servers in one: answers by host, and keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.reply: dict[str, Callable[[], httpx.Response]] = {}
        self.models = ["shapes"]
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.answers_from = 0  # no answer before so many requests are there
        self._enough = asyncio.Event()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        if request.url.path.endswith("/models"):
            if host in self.reply:
                return self.reply[host]()
            return httpx.Response(200, json={"data": [{"id": name} for name in self.models]})
        assert request.url.path == "/v1/chat/completions"
        self.asked.append((host, json.loads(request.content)))
        if len(self.asked) >= self.answers_from:
            self._enough.set()
        await self._enough.wait()
        return self.reply.get(host, answer)()

    def is_without_frames(self) -> bool:
        """Whether the question that came last shows nothing."""
        return isinstance(self.asked[-1][1]["messages"][-1]["content"], str)


def answer(text: str = "A red circle.", finish: str = "stop") -> httpx.Response:
    usage = {"prompt_tokens": 40, "completion_tokens": 5}
    choice = {"message": {"content": text}, "finish_reason": finish}
    return httpx.Response(200, json={"choices": [choice], "usage": usage})


def refused() -> httpx.Response:
    raise httpx.ConnectError("connection refused")


async def started(servers: Servers, *, deadline_s: float = 5.0, **changes: Any) -> RemoteEngine:
    settings = OpenAISettings(**{"base_urls": URLS, "model": "shapes", "slots": 4, **changes})
    engine = RemoteEngine(settings, request_deadline_s=deadline_s, transport=httpx.MockTransport(servers))
    await engine.start()
    return engine


def never() -> httpx.Response:
    raise httpx.ReadTimeout("too late")
