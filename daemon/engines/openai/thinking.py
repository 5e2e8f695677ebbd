"""The chat template of a server, asked about thinking: which switches it has, and whether a prompt ends inside it.

vLLM's servers answer under ``/tokenize`` how a prompt would read. A switch that changes nothing there is not sent: the
server would take the model's reasoning for the answer. Other servers get what the configuration names, and no more.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from daemon.prompts.chat_template import THINKING
from daemon.prompts.prompt import Prompt
from daemon.prompts.reasoning import THINK

_QUESTION = "Yes?"
_ANSWER_S = 10.0


@dataclass(frozen=True, slots=True)
class AskedTemplate:
    """The arguments that a server's template is given, and whether the prompt then ends inside the reasoning."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    is_open: bool = False

    def in_body(self) -> dict[str, Any]:
        """Return the part of a request that says so."""
        return {"chat_template_kwargs": dict(self.arguments)} if self.arguments else {}


class ServerThinking:
    """Asks once for each way in which a configuration wants its template."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._known: dict[str, AskedTemplate] = {}

    async def of(self, prompt: Prompt, client: httpx.AsyncClient | None) -> AskedTemplate:
        """Return what a prompt's requests say of the template; ``client`` is a server of vLLM's, where there is one.

        It is asked again where it was away.
        """
        if client is None:
            return AskedTemplate(prompt.template_args)
        key = json.dumps([prompt.template_args, prompt.reasoning == "off"], sort_keys=True)
        if key not in self._known:
            try:
                self._known[key] = await self._ask(prompt, client)
            except httpx.HTTPError:
                return AskedTemplate(prompt.template_args)
        return self._known[key]

    async def _ask(self, prompt: Prompt, client: httpx.AsyncClient) -> AskedTemplate:
        given = prompt.template_args
        shown = plain = await self._prompt(client, given)
        off = dict[str, bool]()
        if plain is not None and prompt.reasoning == "off":
            for name in THINKING:
                if name not in given and await self._prompt(client, {**given, name: False}) not in (plain, None):
                    off[name] = False
            shown = await self._prompt(client, {**given, **off})
        return AskedTemplate({**given, **off}, THINK.left_open_in((shown or "").rpartition(_QUESTION)[2]))

    async def _prompt(self, client: httpx.AsyncClient, arguments: Mapping[str, Any]) -> str | None:
        """Return how a prompt reads with these arguments; None from a server that does not tell."""
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": _QUESTION}],
            "add_generation_prompt": True,
            "return_token_strs": True,
            "chat_template_kwargs": dict(arguments),
        }
        url = str(client.base_url).removesuffix("/").removesuffix("/v1") + "/tokenize"
        answer = await client.post(url, json=body, timeout=_ANSWER_S)
        try:
            pieces = answer.json()["token_strs"] if answer.is_success else None
            return None if pieces is None else "".join(map(str, pieces))
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
