"""Servers in memory that take videos, or refuse them in one of the ways that are known."""

import asyncio
import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from daemon.engines.openai.engine import RemoteEngine
from daemon.prompts.prompt import Prompt
from tests.windows_of_noise import noise

ASK = Prompt("What is shown?", max_tokens=8)
WINDOW = noise(3, 6, 8, index=2)
Start = Callable[..., Any]

UNTRUSTED = "Per-request media_io_kwargs are disabled by default because they can change resource usage."
TOKENS_A_FRAME = 16


@dataclass
class Stub:
    """One server. What it was asked is kept: tiny videos apart from windows."""

    owned_by: str = "vllm"
    refuses_videos: httpx.Response | None = None
    reads_times: bool = True
    merges_pairs: bool = True
    least_frames: int = 1
    window_reply: httpx.Response | None = None  # instead of an answer about a window
    is_away: bool = False
    goes_after_refusal: bool = False
    looks: int = 0
    unheard: int = 0  # requests while it was away
    probes: list[dict[str, Any]] = field(default_factory=list)
    windows: list[dict[str, Any]] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    probes_may_be_answered: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_answer.set()
        self.probes_may_be_answered.set()

    async def reply(self, request: httpx.Request) -> httpx.Response:
        if self.is_away:
            self.unheard += 1
            raise httpx.ConnectError("connection refused")
        if request.url.path.endswith("/models"):
            self.looks += 1
            return httpx.Response(200, json={"data": [{"id": "shapes", "owned_by": self.owned_by}]})
        if request.url.path == "/tokenize":
            return httpx.Response(404)
        body = json.loads(request.content)
        await self.may_answer.wait()
        if self.is_away:
            self.unheard += 1
            raise httpx.ReadError("cut off")
        if body["max_tokens"] == 1:
            self.probes.append(body)
            await self.probes_may_be_answered.wait()
            return self._taken(body) or self._answer(body)
        self.windows.append(body)
        refused = self._taken(body) or self.window_reply
        self.is_away = bool(refused) and self.goes_after_refusal
        return refused or self._answer(body)

    def _taken(self, body: dict[str, Any]) -> httpx.Response | None:
        """Return a refusal of the request's form, where there is one."""
        if media_of(body) != "video":
            return None
        if self.refuses_videos is not None:
            return self.refuses_videos
        times = body["media_io_kwargs"]["video"]["frames_indices"]
        if self.reads_times and len(times) != len(pixels_of(body)):
            return httpx.Response(400, text="frames_indices length must match number of frames sent")
        if len(pixels_of(body)) < self.least_frames:
            return httpx.Response(400, text="t:1 must be larger than temporal_factor:2")
        return None

    def _answer(self, body: dict[str, Any]) -> httpx.Response:
        frames = len(pixels_of(body))
        if media_of(body) == "video" and self.merges_pairs:
            frames = -(-frames // 2)
        usage = {"prompt_tokens": 20 + TOKENS_A_FRAME * frames, "completion_tokens": 4}
        choice = {"message": {"content": "A red circle."}, "finish_reason": "stop"}
        return httpx.Response(200, json={"choices": [choice], "usage": usage})


def refusing(status: int = 400, text: str = UNTRUSTED) -> httpx.Response:
    return httpx.Response(status, text=text)


@dataclass
class Network:
    """The transport: servers by host."""

    servers: dict[str, Stub]

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        return await self.servers[request.url.host].reply(request)


def media_of(body: dict[str, Any]) -> str:
    """Return whether a request shows a video or images."""
    kinds = {part["type"].removesuffix("_url") for part in body["messages"][-1]["content"][:-1]}
    assert len(kinds) == 1
    return str(kinds.pop())


def pixels_of(body: dict[str, Any]) -> NDArray[np.uint8]:
    """Return the frames of a request."""
    parts = body["messages"][-1]["content"][:-1]
    if media_of(body) == "video":
        (part,) = parts
        head, _, data = part["video_url"]["url"].partition(",")
        assert head == "data:video/jpeg;base64"
        encoded = data.split(",")
    else:
        encoded = [part["image_url"]["url"].removeprefix("data:image/png;base64,") for part in parts]
    return np.stack([np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in encoded])


async def ask(engine: RemoteEngine, count: int = 1) -> list[str]:
    done = await asyncio.gather(*(engine.describe(WINDOW, ASK, f"clip/{i}/{i}") for i in range(count)))
    return [one.text for one in done]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)
