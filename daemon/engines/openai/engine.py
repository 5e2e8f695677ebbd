"""OpenAI-compatible servers as the engine: the same windows, sent over HTTP to as many machines as there are.

A server that is away is waited for: that is an outage, and no clip's fault. So the deadline of a request counts from
the moment when a server took it, and this engine runs without the guard. A server can hang while it reports good
health, so one counts as away too that answered nothing within a deadline and then not even a question of one word.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx

from connectors.errors import ConfigurationError, Poison, Reason, Transient
from daemon.config.engine_settings import OpenAISettings
from daemon.engines.contract import Completion, Rendered, unheeded
from daemon.engines.library_errors import sentence
from daemon.engines.model.media_form import MediaForm
from daemon.engines.model.token_planner import Check, RemoteTokenPlanner
from daemon.engines.openai.answer import completion_of
from daemon.engines.openai.request import EncodedWindow, as_json, form_in_body, request_body
from daemon.engines.openai.server import AWAY, Away, Server, connect, is_over_context, models_of, raise_for
from daemon.engines.openai.thinking import ServerThinking
from daemon.engines.openai.window_form import VideoRefused, learn_form
from daemon.prompts.control_tokens import ControlTokens, LikelyControlTokens, control_tokens_of
from daemon.prompts.prompt import Prompt
from daemon.prompts.templates import AUTO
from daemon.windows import FrameSet

log = logging.getLogger(__name__)

_BACK_OFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)  # between looks at servers that are away; a fresh one is found within 5 s
_WORD_S = 30.0  # a server that is busy puts one word in between within this


class RemoteEngine:
    """A model behind OpenAI-compatible servers. See :class:`daemon.engines.contract.Engine`."""

    statistics, rendering = None, None

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
        self._servers: list[Server] = []
        self._thinking = ServerThinking(settings.model)
        self._control: ControlTokens | LikelyControlTokens = LikelyControlTokens()

    async def start(self) -> None:
        """Wait until a server answers and knows the model.

        Raises:
            ConfigurationError: a server answers and does not know the model, or takes no videos where ``engine.media``
                asks for them, or the key's file can't be read.
        """
        self._control = await asyncio.to_thread(control_tokens_of, self.model_id)
        for look in itertools.count():
            if await self.look():
                self.waiting_for = ""
                await self.learn_forms()
                self._check(self.planner)
                return
            self._note_away("no server answers")
            await asyncio.sleep(_BACK_OFF_S[min(look, len(_BACK_OFF_S) - 1)])

    async def look(self) -> bool:
        """Ask the servers what they know, once; False where none answers. Raises as :meth:`start` does."""
        self._servers = self._servers or [
            connect(self._settings, url, self._deadline_s, self._transport) for url in self._settings.base_urls
        ]
        answers = await asyncio.gather(*map(_models_or_none, self._servers))
        known = {name for models in answers for name in models}
        if known and self.model_id not in known:
            raise ConfigurationError(f"the servers know {', '.join(sorted(known))}", path="engine.model")
        lengths = [_length(models[self.model_id].get("max_model_len")) for models in answers if self.model_id in models]
        self.planner.max_model_len = min((length for length in lengths if length is not None), default=None)
        return bool(known)

    async def learn_forms(self) -> list[str]:
        """Find out in which form each server takes windows; return a sentence about each that answers.

        Raises:
            ConfigurationError: ``engine.media`` is ``video``, and a server refuses videos.
        """
        await asyncio.gather(*map(self._learn_form, self._servers))
        return [server.said for server in self._servers if server.said]

    async def _learn_form(self, server: Server) -> None:
        try:
            await learn_form(server, self._settings)
        except VideoRefused as why:
            raise ConfigurationError(f"{server.url} takes no videos: {why}", path="engine.media") from why
        except Away as why:  # it is asked again before the first window goes to it
            log.debug("%s does not say in which form it takes windows: %s.", server.url, why)

    async def describe(
        self, frames: FrameSet, prompt: Prompt, request_id: str, rendered: Rendered = unheeded
    ) -> Completion:
        """Return a server's answer; waits as long as all of them are away."""
        if prompt.template != AUTO:
            detail = f"a server knows its own chat template alone; {prompt.template!r} needs engine.kind: vllm"
            raise Poison(Reason.PROMPT, detail, origin="prompt")
        if prompt.holds_data:  # the server makes tokens of it
            prompt = prompt.treated(self._control.broken)
        window = await self._encoded(frames)
        await rendered(window.size_bytes)
        begun_s = time.monotonic()
        while True:
            server = await self._next_server()
            try:
                completion = await self._ask(server, window, prompt, request_id, begun_s)
            except Away as why:
                server.was_away(why, _BACK_OFF_S)
                self._note_away(str(why))
            else:
                server.failures, self.waiting_for = 0, ""
                if completion is not None:
                    self.progress += 1
                    return completion

    async def _encoded(self, frames: FrameSet) -> EncodedWindow:
        """Return a window's pictures, encoded once for all requests about it."""
        shared = frames.shared
        if shared is None:
            return await asyncio.to_thread(EncodedWindow.of, frames)
        window: EncodedWindow = await shared.once(lambda: asyncio.to_thread(EncodedWindow.of, frames))
        return window

    async def _next_server(self) -> Server:
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
        self, server: Server, window: EncodedWindow, prompt: Prompt, request_id: str, begun_s: float
    ) -> Completion | None:
        """Send one request to one server; None where that no longer takes windows in the form that it was known by."""
        server.in_flight += 1
        server.asked += 1
        try:
            form = await learn_form(server, self._settings)
            template = await self._thinking.of(prompt, server.client if server.is_vllm else None)
            also = template.in_body() | form_in_body(prompt, is_vllm=server.is_vllm)
            body = await asyncio.to_thread(lambda: as_json(request_body(self.model_id, window, prompt, form, also)))
            asked_s = time.monotonic()
            answer = await self._post(server, body, request_id)
            if await self._takes_it_otherwise(server, form, answer):
                return None
        finally:
            server.in_flight -= 1
        raise_for(answer)
        server.answered += 1
        queue_ms, engine_ms = (asked_s - begun_s) * 1000, (time.monotonic() - asked_s) * 1000
        done = completion_of(answer, prompt, queue_ms, engine_ms, is_open=template.is_open)
        return replace(done, origin=replace(done.origin, server=server.url))

    async def _takes_it_otherwise(self, server: Server, form: MediaForm, answer: httpx.Response) -> bool:
        """Whether a server refused a video for its form: another one came in its place unseen, and takes images.

        A server that goes away now may do so over this window, so its failure stays that of the window.
        """
        if answer.is_success or answer.status_code in AWAY or form.modality == "image" or is_over_context(answer):
            return False
        try:
            return await learn_form(server, self._settings, doubted=form) != form
        except Away:
            if answer.status_code < 500:  # what is refused takes no server away
                raise
            return False

    async def _post(self, server: Server, body: bytes, request_id: str) -> httpx.Response:
        """Send a request; one that is late is the server's fault where that answers nothing at all."""
        answered = server.answered
        try:
            async with asyncio.timeout(self._deadline_s):
                return await server.client.post("chat/completions", content=body, headers={"X-Request-Id": request_id})
        except (httpx.ReadTimeout, TimeoutError) as error:
            detail = f"the server gave no answer within {self._deadline_s:g} s"
            if server.answered == answered and not await self._has_a_word(server):
                raise Away(detail) from error
            raise Transient(detail, reason=Reason.ENGINE_DEADLINE, origin="engine") from error
        except httpx.HTTPError as error:  # refused, cut off, or not HTTP
            raise Away(sentence(error) or type(error).__name__) from error

    async def _has_a_word(self, server: Server) -> bool:
        """Whether a server says anything to a question without frames; a refusal counts."""
        question = {"model": self.model_id, "messages": [{"role": "user", "content": "Yes?"}], "max_tokens": 1}
        try:
            answer = await server.client.post("chat/completions", json=question, timeout=_WORD_S)
        except httpx.HTTPError:
            return False
        return answer.status_code < 500 and answer.status_code not in AWAY

    async def wait_dead(self) -> None:
        """Never return: servers that are away are waited for."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Close the connections; servers abort what they still work on."""
        servers, self._servers = self._servers, []
        await asyncio.gather(*(server.client.aclose() for server in servers))


async def ask_servers(settings: OpenAISettings, deadline_s: float) -> tuple[RemoteTokenPlanner | None, list[str]]:
    """Return what the servers say of the model, None where none answers, and a sentence about each that does.

    Raises as :meth:`RemoteEngine.start` does.
    """
    engine = RemoteEngine(settings, request_deadline_s=deadline_s)
    try:
        return (engine.planner, await engine.learn_forms()) if await engine.look() else (None, [])
    finally:
        await engine.close()


async def _models_or_none(server: Server) -> Mapping[str, Mapping[str, Any]]:
    try:
        return await models_of(server)
    except Away:
        return {}


def _length(said: object) -> int | None:
    """Return a context's length in tokens; vLLM says it, others do not."""
    return said if isinstance(said, int) and said > 0 else None
