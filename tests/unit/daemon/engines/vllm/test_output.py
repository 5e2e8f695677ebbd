"""vLLM's final outputs as answers: one that the engine gave up is none."""

from types import SimpleNamespace
from typing import Any

import pytest

from connectors.errors import Transient
from daemon.engines.vllm.output import completion


def final(finish_reason: str, text: str = "a red square") -> Any:
    answer = SimpleNamespace(text=text, finish_reason=finish_reason, token_ids=[1, 2], logprobs=None)
    return SimpleNamespace(outputs=[answer], metrics=None, prompt_token_ids=[1, 2, 3])


@pytest.mark.parametrize("finish_reason", ["error", "abort"])
@pytest.mark.parametrize("text", ["", "a red"])
def test_a_request_that_the_engine_gave_up_is_tried_again_and_is_no_caption(finish_reason: str, text: str) -> None:
    with pytest.raises(Transient, match=finish_reason) as refused:
        completion(final(finish_reason, text), 3, 0)

    assert refused.value.origin == "engine"


@pytest.mark.parametrize(("finish_reason", "truncated"), [("stop", False), ("length", True)])
def test_an_answer_that_ended_is_one(finish_reason: str, truncated: bool) -> None:
    done = completion(final(finish_reason), 3, 0)

    assert (done.text, done.truncated, done.prompt_tokens) == ("a red square", truncated, 3)
