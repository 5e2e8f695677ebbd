"""OpenAI-compatible servers as the engine: the same windows, sent over HTTP to as many machines as there are.

A server that is away is waited for: that is an outage, and no clip's fault. So the deadline of a request counts from
the moment when a server took it, and this engine runs without the guard. A server can hang while it reports good
health, so one counts as away too that answered nothing within a deadline and then not even a question of one word.
"""

import asyncio
import base64
import io
import itertools
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from connectors.errors import ConfigurationError, Poison, Reason, Transient
from daemon.config.engine_settings import OpenAISettings
from daemon.engines.contract import Completion
from daemon.engines.library_errors import sentence
from daemon.engines.model.media_form import as_images
from daemon.engines.model.token_planner import Check, RemoteTokenPlanner
from daemon.engines.openai.answer import completion_of
from daemon.engines.openai.thinking import ServerThinking
from daemon.prompts.control_tokens import ControlTokens, LikelyControlTokens, control_tokens_of
from daemon.prompts.prompt import Prompt
from daemon.prompts.templates import AUTO
from daemon.windows import FrameSet

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

_BACK_OFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)  # between looks at servers that are away; a fresh one is found within 5 s
_WORD_S = 30.0  # a server that is busy puts one word in between within this
_CONNECT_S = 5.0  # a server that takes no connection within this is away
_AWAY = frozenset({401, 403, 404, 408, 425, 429, 502, 503, 504})  # says the server about itself, not about the request
# what only some servers know, sent only where it differs from what every server does by itself
_EXTRAS: dict[str, Any] = {
    "min_tokens": 0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0,
    "frequency_penalty": 0.0, "ignore_eos": False, "seed": None, "stop": (),
}  # fmt: skip


@dataclass
class _Server:
    """One server: how busy it is, and from when on it is asked again after it was away."""

    client: httpx.AsyncClient
    in_flight: int = 0
    asked: int = 0
    answered: int = 0
    failures: int = 0
    back_at_s: float = 0.0
    is_vllm: bool = False


class _Away(Exception):
    """This server can't take the request; another may, or the same one later."""


class RemoteEngine:
    """A model behind OpenAI-compatible servers. See :class:`daemon.engines.contract.Engine`."""

    statistics = None

    def __init__(
        self,
        settings: OpenAISettings,
        *,
        request_deadline_s: float,
        transport: httpx.AsyncBaseTransport | None = None,
        check: Check = lambda _: None,
    ) -> None:
        self._settings, self._deadline_s, self._transport = settings, request_deadline_s, transport
        self.model_id, self.slots = settings.model, settings.slots
        self.planner, self._check = RemoteTokenPlanner(), check
        self.progress = 0
        self.waiting_for = ""  # why no server takes requests now; empty while one does
        self._servers: list[_Server] = []
        self._thinking = ServerThinking(settings.model)
        self._control: ControlTokens | LikelyControlTokens = LikelyControlTokens()

    async def start(self) -> None:
        """Wait until a server answers and knows the model.

        Raises:
            ConfigurationError: a server answers and does not know the model, or the key's file can't be read.
        """
        self._control = await asyncio.to_thread(control_tokens_of, self.model_id)
        for look in itertools.count():
            if await self.look():
                self.waiting_for = ""
                self._check(self.planner)
                return
            self._note_away("no server answers")
            await asyncio.sleep(_BACK_OFF_S[min(look, len(_BACK_OFF_S) - 1)])

    async def look(self) -> bool:
        """Ask the servers what they know, once; False where none answers. Raises as :meth:`start` does."""
        self._servers = self._servers or [_Server(self._client(url)) for url in self._settings.base_urls]
        found = await asyncio.gather(*(self._models(server) for server in self._servers))
        known = {name: length for lengths in found for name, length in (lengths or {}).items()}
        if known and self.model_id not in known:
            raise ConfigurationError(f"the servers know {', '.join(sorted(known))}", path="engine.model")
        lengths = [one[self.model_id] for one in found if one and self.model_id in one]
        self.planner.max_model_len = min((length for length in lengths if length is not None), default=None)
        return bool(known)

    def _client(self, url: str) -> httpx.AsyncClient:
        headers = {}
        if self._settings.api_key_file is not None:
            try:
                headers["Authorization"] = f"Bearer {self._settings.api_key_file.read_text().strip()}"
            except OSError as error:
                raise ConfigurationError("the file can't be read", path="engine.api_key_file") from error
        timeout = httpx.Timeout(self._deadline_s, connect=_CONNECT_S)
        limits = httpx.Limits(max_connections=self.slots)
        return httpx.AsyncClient(
            base_url=url.rstrip("/") + "/", headers=headers, timeout=timeout, limits=limits, transport=self._transport
        )

    async def _models(self, server: _Server) -> dict[str, int | None] | None:
        """Return the models that a server knows, with their context where it says; None while it is away."""
        try:
            answer = await server.client.get("models", timeout=_CONNECT_S)
            answer.raise_for_status()
            models = answer.json()["data"]
            server.is_vllm = any(model.get("owned_by") == "vllm" for model in models)
            return {str(model["id"]): _length(model.get("max_model_len")) for model in models}
        except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    async def describe(self, frames: FrameSet, prompt: Prompt, request_id: str) -> Completion:
        """Return a server's answer; waits as long as all of them are away."""
        if prompt.template != AUTO:
            detail = f"a server knows its own chat template alone; {prompt.template!r} needs engine.kind: vllm"
            raise Poison(Reason.PROMPT, detail, origin="prompt")
        asked = await self._thinking.of(prompt, next((one.client for one in self._servers if one.is_vllm), None))
        body = await asyncio.to_thread(self._body, frames, prompt) | asked.in_body()
        begun_s = time.monotonic()
        while True:
            server = await self._next_server()
            try:
                completion = await self._ask(server, body, prompt, request_id, begun_s, is_open=asked.is_open)
            except _Away as why:
                server.failures += 1
                pause_s = _BACK_OFF_S[min(server.failures, len(_BACK_OFF_S)) - 1]
                server.back_at_s = time.monotonic() + pause_s
                self._note_away(str(why))
            else:
                server.failures, self.waiting_for = 0, ""
                self.progress += 1
                return completion

    async def _next_server(self) -> _Server:
        """Return the least busy server that is not known to be away; waits for the first to come back."""
        while True:
            now_s = time.monotonic()
            there = [server for server in self._servers if server.back_at_s <= now_s]
            if there:
                return min(there, key=lambda server: (server.in_flight, server.asked))
            await asyncio.sleep(min(server.back_at_s for server in self._servers) - now_s)

    def _note_away(self, why: str) -> None:
        if not self.waiting_for:
            log.warning("A server of the engine is away and is waited for: %s.", why)
        self.waiting_for = why

    async def _ask(
        self, server: _Server, body: dict[str, Any], prompt: Prompt, request_id: str, begun_s: float, *, is_open: bool
    ) -> Completion:
        """Send one request to one server; one that is late is the server's fault where that answers nothing at all."""
        asked_s, answered = time.monotonic(), server.answered
        server.in_flight += 1
        server.asked += 1
        try:
            async with asyncio.timeout(self._deadline_s):
                answer = await server.client.post("chat/completions", json=body, headers={"X-Request-Id": request_id})
        except (httpx.ReadTimeout, TimeoutError) as error:
            detail = f"the server gave no answer within {self._deadline_s:g} s"
            if server.answered == answered and not await self._has_a_word(server):
                raise _Away(detail) from error
            raise Transient(detail, reason=Reason.ENGINE_DEADLINE, origin="engine") from error
        except httpx.HTTPError as error:  # refused, cut off, or not HTTP
            raise _Away(sentence(error) or type(error).__name__) from error
        finally:
            server.in_flight -= 1
        _raise_for(answer)
        server.answered += 1
        queue_ms, engine_ms = (asked_s - begun_s) * 1000, (time.monotonic() - asked_s) * 1000
        return completion_of(answer, prompt, queue_ms, engine_ms, is_open=is_open)

    async def _has_a_word(self, server: _Server) -> bool:
        """Whether a server says anything to a question without frames; a refusal counts."""
        question = {"model": self.model_id, "messages": [{"role": "user", "content": "Yes?"}], "max_tokens": 1}
        try:
            answer = await server.client.post("chat/completions", json=question, timeout=_WORD_S)
        except httpx.HTTPError:
            return False
        return answer.status_code < 500 and answer.status_code not in _AWAY

    def _body(self, frames: FrameSet, prompt: Prompt) -> dict[str, Any]:
        """Return the request: the frames as lossless pictures in front of the question.

        The server makes tokens of it, so a sender's question has its control tokens broken up before it goes out.
        """
        text = self._control.broken(prompt.text) if prompt.from_sender else prompt.text
        pictures = [{"type": "image_url", "image_url": {"url": _data_url(image)}} for image in as_images(frames.frames)]
        system = [] if prompt.system is None else [{"role": "system", "content": prompt.system}]
        extras = {name: getattr(prompt, name) for name, usual in _EXTRAS.items() if getattr(prompt, name) != usual}
        if prompt.logprobs is not None:
            extras |= {"logprobs": True, "top_logprobs": prompt.logprobs}
        sampling = {"temperature": prompt.temperature, "top_p": prompt.top_p, **extras}
        return {
            "model": self.model_id,
            "messages": [*system, {"role": "user", "content": [*pictures, {"type": "text", "text": text}]}],
            "max_tokens": prompt.max_tokens,
            **{name: value for name, value in sampling.items() if name not in prompt.from_model},
        }

    async def wait_dead(self) -> None:
        """Never return: servers that are away are waited for."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Close the connections; servers abort what they still work on."""
        servers, self._servers = self._servers, []
        await asyncio.gather(*(server.client.aclose() for server in servers))


async def ask_servers(settings: OpenAISettings, deadline_s: float) -> RemoteTokenPlanner | None:
    """Return what the servers say of the model; None where none answers. Raises as :meth:`RemoteEngine.start` does."""
    engine = RemoteEngine(settings, request_deadline_s=deadline_s)
    try:
        return engine.planner if await engine.look() else None
    finally:
        await engine.close()


def _length(said: object) -> int | None:
    """Return a context's length in tokens; vLLM says it, others do not."""
    return said if isinstance(said, int) and said > 0 else None


def _data_url(image: "Image") -> str:
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def _raise_for(answer: httpx.Response) -> None:
    """Say whose fault an answer's status is: the server's, this moment's or the request's."""
    if answer.is_success:
        return
    detail = f"the server answers {answer.status_code}: {' '.join(answer.text[:300].split())}"
    if answer.status_code in _AWAY:
        raise _Away(detail)
    if answer.status_code >= 500:
        raise Transient(detail, reason=Reason.ENGINE_REFUSED, origin="engine")
    too_long = "context length" in answer.text or "max_model_len" in answer.text
    raise Poison(Reason.OVER_CONTEXT if too_long else Reason.ENGINE_REFUSED, detail, origin="engine")
