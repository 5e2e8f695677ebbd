"""A Phi-4-multimodal in the real vLLM, of which only the language model is tiny: its tower takes seconds a frame."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from daemon.prompts.prompt import Prompt
from tests.contract.vllm_engines import MARKS
from tests.families.registry import BY_MODEL
from tests.families.started import Started, starting
from tests.families.suite import FamilySuite
from tests.windows_of_noise import noise

pytestmark = [*MARKS, pytest.mark.families]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["phi4mm"])
async def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Started]:
    async with starting(BY_MODEL[request.param], tmp_path_factory.mktemp("models")) as one:
        yield one


class TestPhiFamily(FamilySuite):
    async def test_sees_with_the_adapter_of_its_folder(self, started: Started) -> None:
        engine = started.engine
        assert engine is not None, started.error
        asked, window = Prompt("What is shown?", max_tokens=2, min_tokens=2, logprobs=1), noise(1, 56, 56)
        seen = await engine.describe(window, asked, "clip/0/with")
        adapter, engine._adapter = engine._adapter, None
        try:
            blind = await engine.describe(window, replace(asked), "clip/0/without")
        finally:
            engine._adapter = adapter

        assert adapter.lora_path == str(started.folder / "vision-lora")
        assert [step.logprob for step in seen.logprobs] != [step.logprob for step in blind.logprobs]
