"""A server of vLLM's is told to turn thinking off where that changes its prompt; others are told what is configured."""

import json
from typing import Any

import httpx
import pytest
from jinja2 import Template

from daemon.config.engine_settings import OpenAISettings
from daemon.engines.openai.engine import RemoteEngine
from daemon.prompts.prompt import Prompt
from tests.windows_of_noise import noise

WINDOW = noise(1, 6, 8)
END = "<think>\n{% if enable_thinking is defined and not enable_thinking %}\n</think>{% endif %}"


class Server:
    """A server of vLLM's with a chat template, or with ``template`` None one that tells nothing of its own."""

    def __init__(self, template: str | None, text: str = "A ball.", finish: str = "stop") -> None:
        self.template, self.text, self.finish = template, text, finish
        self.asked: list[dict[str, Any]] = []
        self.looks = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "m", "owned_by": "vllm" if self.template else "me"}]})
        body = json.loads(request.content)
        if request.url.path == "/tokenize":
            self.looks += 1
            assert self.template is not None, "it is no server of vLLM's"
            shown = Template(self.template).render(**body["chat_template_kwargs"])
            return httpx.Response(200, json={"tokens": [1], "token_strs": ["Yes", "?", *shown]})
        self.asked.append(body)
        choice = {"message": {"content": self.text}, "finish_reason": self.finish}
        return httpx.Response(200, json={"choices": [choice], "usage": {}})


async def asked(server: Server, prompt: Prompt, times: int = 1) -> Any:
    settings = OpenAISettings(base_urls=("http://one/v1",), model="m", media="images")
    engine = RemoteEngine(settings, request_deadline_s=5.0, transport=httpx.MockTransport(server))
    try:
        await engine.start()
        return [await engine.describe(WINDOW, prompt, f"clip/0/{i}") for i in range(times)][-1]
    finally:
        await engine.close()


@pytest.mark.parametrize(
    ("template", "prompt", "sent"),
    [
        (END, Prompt("What?"), {"enable_thinking": False}),
        (END.replace("enable_thinking", "thinking"), Prompt("What?"), {"thinking": False}),
        (END, Prompt("What?", reasoning="strip"), None),
        (END, Prompt("What?", template_args={"enable_thinking": True}), {"enable_thinking": True}),
        (END, Prompt("What?", template_args={"tone": 1}), {"tone": 1, "enable_thinking": False}),
        ("<think>", Prompt("What?"), None),  # told so, its parser would take the reasoning for the answer
        ("A:", Prompt("What?"), None),
        (None, Prompt("What?"), None),
        (None, Prompt("What?", template_args={"enable_thinking": False}), {"enable_thinking": False}),
    ],
)
async def test_what_the_template_is_told(template: str | None, prompt: Prompt, sent: dict[str, Any] | None) -> None:
    server = Server(template)

    await asked(server, prompt, times=3)

    assert [body.get("chat_template_kwargs") for body in server.asked] == [sent] * 3
    assert server.looks <= 4  # once, whatever comes after


@pytest.mark.parametrize(
    ("template", "reasoning", "text"),
    [(END, "strip", ""), (END, "off", "It is"), ("<think>", "off", ""), ("A:", "off", "It is")],
)
async def test_an_answer_that_was_cut_off_inside_its_reasoning_is_no_caption(
    template: str, reasoning: Any, text: str
) -> None:
    done = await asked(Server(template, "It is", "length"), Prompt("What?", reasoning=reasoning))

    assert (done.text, done.truncated, bool(done.detail)) == (text, True, not text)


@pytest.mark.parametrize(
    "answer", [httpx.Response(404), httpx.Response(200, content=b"[1"), httpx.Response(200, json=[])]
)
async def test_a_server_that_does_not_tell_is_asked_as_it_is(answer: httpx.Response) -> None:
    class Silent(Server):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            return answer if request.url.path == "/tokenize" else super().__call__(request)

    server = Silent(END)

    assert (await asked(server, Prompt("What?"))).text == "A ball."
    assert "chat_template_kwargs" not in server.asked[0]


async def test_sampling_settings_are_sent_where_they_are_used_and_not_left_to_the_model() -> None:
    server = Server(None)
    used = {"min_p": 0.1, "presence_penalty": 0.2, "frequency_penalty": 0.3, "ignore_eos": True}

    await asked(server, Prompt("What?", **used))
    await asked(server, Prompt("What?", top_p=0.9, from_model=("temperature", "min_p")))
    await asked(server, Prompt("What?"))

    plain = {"model", "messages", "max_tokens", "temperature", "top_p"}
    assert {name: value for name, value in server.asked[0].items() if name not in plain} == used
    assert server.asked[1].keys() == plain - {"temperature"}
    assert server.asked[2].keys() == plain
