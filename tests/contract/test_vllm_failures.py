"""What the real vLLM can't start with, or only since it is told what windows will come."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from connectors.errors import ConfigurationError, ExitCode, Poison, Reason
from daemon.commands.check import check
from daemon.commands.one_shot import SOURCE
from daemon.config.engine_settings import VllmSettings
from daemon.config.file import settings_from
from daemon.config.settings import Settings
from daemon.engines.contract import Completion, Rendered, unheeded
from daemon.engines.vllm.engine import VllmEngine
from daemon.engines.vllm.load import load_model
from daemon.frame_look import FrameSize, PixelBudget
from daemon.prompts.prompt import Prompt
from daemon.windows import FrameSet
from testing import tiny_models
from testing.load import write_load_clip
from testing.repository import ROOT
from tests.contract.vllm_engines import MARKS, collect_quietly, settings
from tests.windows_of_noise import noise

pytestmark = MARKS

MANY = 600  # frames of four tokens: vLLM's own budget, of 2048 tokens or 16 frames, does not hold them
LONGEST = 4096  # the tiny model's context
CACHE_BYTES = 3_600_000  # of keys and values, a KiB a token: more than the window's, fewer than the context's
ASK = Prompt("What is shown?", max_tokens=2)


@pytest.fixture(scope="module")
def onevision(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build("llava_onevision", tmp_path_factory.mktemp("models"))


def with_many_frames(model: Path, **args: Any) -> VllmSettings:
    given = {"enforce-eager": True, "max-num-seqs": 4, **args}
    return VllmSettings(model=str(model), dtype="float32", max_model_len="auto", args=given)


class Watched(VllmEngine):
    """An engine that remembers which windows it was asked about."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.asked: list[tuple[int, ...]] = []

    async def describe(
        self, frames: FrameSet, prompt: Prompt, request_id: str, rendered: Rendered = unheeded
    ) -> Completion:
        self.asked.append(frames.frames.shape[:3])
        return await super().describe(frames, prompt, request_id, rendered)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(onevision: Path) -> AsyncIterator[Watched]:
    one = Watched(with_many_frames(onevision, kv_cache_memory_bytes=CACHE_BYTES), max_frames=MANY)
    try:
        await one.start()
        yield one
    finally:
        await one.close()
        collect_quietly()


async def test_an_engine_takes_windows_that_its_own_budget_does_not_hold(engine: Watched) -> None:
    done = await engine.describe(noise(MANY, 56, 56), ASK, "clip/0/many")

    planned = engine.planner.plan(MANY, 56, 56, ASK)
    assert done.vision_tokens == planned.vision_tokens > 2048
    assert done.prompt_tokens == planned.prompt_tokens


async def test_a_context_by_memory_is_as_long_as_memory_holds(engine: Watched) -> None:
    longest = engine.planner.max_model_len

    assert longest is not None
    assert 2048 < longest < LONGEST
    with pytest.raises(Poison, match=rf"more than the model's {longest}") as over:
        engine.planner.check(Prompt("What?", max_tokens=longest), 1, 56, 56)
    assert over.value.reason == Reason.OVER_CONTEXT


async def test_an_engine_is_warmed_up_with_the_windows_that_will_come(engine: Watched) -> None:
    (shape, *_) = engine.asked

    size = engine.planner.frame_size(MANY, FrameSize(1920, 1080), PixelBudget())
    assert shape == (MANY, size.height, size.width)


def test_a_plan_says_what_an_operators_own_budget_does_not_hold(onevision: Path) -> None:
    written = with_many_frames(onevision, max_num_batched_tokens=1024)
    planner = load_model(written, MANY).planner

    planner.check(ASK, 16, 56, 56)
    with pytest.raises(Poison, match=r"2401 tokens, and the engine takes 1024 .*max_num_batched_tokens") as over:
        planner.check(ASK, MANY, 56, 56)
    assert over.value.reason == Reason.OVER_CONTEXT


def loaded(model: Path, folder: Path, frames: int, **args: Any) -> Settings:
    engine = {"model": str(model), "dtype": "float32", "max_model_len": "auto", "args": args}
    (folder / "inbox").mkdir()
    places = {"sources": {SOURCE: {"kind": "folder", "path": "inbox"}}, "sink": {"kind": "folder", "path": "captions"}}
    return settings_from({"engine": engine, "frames": {"num_frames": frames}, **places}, folder=folder)


def test_a_configuration_whose_windows_an_operators_budget_does_not_hold_is_refused(
    onevision: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"frames\.num_frames: .*the engine takes 1024") as refused:
        check(loaded(onevision, tmp_path, MANY, max_num_batched_tokens=1024))

    assert refused.value.exit_code == ExitCode.CONFIGURATION


def test_check_says_what_is_chosen_for_the_engine_and_why(onevision: Path, tmp_path: Path) -> None:
    said = " ".join(check(loaded(onevision, tmp_path, MANY), ask_processor=True))

    assert "engine.args.max_num_seqs: 128, vLLM's own for a server on this machine." in said
    assert f"engine.args.max_num_batched_tokens: 2401, the vision tokens of a window of {MANY} frames" in said
    assert f"engine.max_model_len: auto, as much as memory holds, up to {LONGEST} tokens" in said


def caption(config: Path, clip: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "daemon", "caption", "-c", str(config), str(clip)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)


@pytest.mark.thorough
def test_a_context_that_the_memory_cannot_hold_ends_with_78_and_the_longest_that_fits(
    onevision: Path, tmp_path: Path
) -> None:
    args = {"enforce_eager": True, "max_num_seqs": 4, "kv_cache_memory_bytes": 2**20}
    engine = {"model": str(onevision), "dtype": "float32", "max_model_len": LONGEST, "args": args}
    (tmp_path / "captiond.yaml").write_text(json.dumps({"engine": engine}))
    write_load_clip(tmp_path / "clip.mp4", windows=1)

    ended = caption(tmp_path / "captiond.yaml", tmp_path / "clip.mp4")

    assert ended.returncode == ExitCode.CONFIGURATION, ended.stderr
    (said,) = [line for line in ended.stderr.splitlines() if "engine.max_model_len: " in line]
    assert "a request of 4096 tokens takes" in said
    assert "the largest that fits is 896: write that, or auto" in said


@pytest.mark.parametrize("damage", [pytest.param("pickle", marks=pytest.mark.thorough), "tensors"])
async def test_weights_that_cannot_be_read_end_with_78(tmp_path: Path, damage: str) -> None:
    model = tiny_models.build("llava_onevision", tmp_path)
    whole = (model / "model.safetensors").read_bytes()
    if damage == "tensors":
        (model / "model.safetensors").write_bytes(whole[:4])
    else:
        import torch

        (model / "model.safetensors").unlink()
        torch.save({"w": torch.zeros(4)}, model / "pytorch_model.bin")
        content = (model / "pytorch_model.bin").read_bytes()
        (model / "pytorch_model.bin").write_bytes(
            content.replace(b"collections", b"collectorzz").replace(b"storage", b"st0rage")
        )
    engine = VllmEngine(settings(model), max_frames=8)

    with pytest.raises(ConfigurationError, match=r"engine\.model: its weights") as refused:
        await engine.start()
    await engine.close()

    assert refused.value.exit_code == ExitCode.CONFIGURATION
    assert "fetch it" in str(refused.value)
