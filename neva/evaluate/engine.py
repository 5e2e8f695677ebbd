"""The engine of an evaluation: the daemon's own, set up by NeVA's keys, behind NeVA's preparation of frames."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from daemon.config.file import settings_from
from daemon.config.settings import Settings
from daemon.engines.contract import Completion, Engine, Rendered, unheeded
from daemon.engines.guard import EngineWrapper
from daemon.prompts.prompt import Prompt
from daemon.windows import FrameSet
from neva.evaluate.model import vllm_quantization
from neva.evaluate.settings import EvaluateSettings
from neva.media_settings import ModelSettings
from neva.pixel_values import CLIP, AspectRatio, prepare_frames

# many prompts may ask about one clip: its frames and the beginning of its prompts are computed only once
_ARGS = {"enable_prefix_caching": True, "mm_processor_cache_gb": 1}
_STAND_IN = "Describe this video."  # each record replaces it by its own text
_TOP_TOKENS = 5  # the number of likeliest tokens that all_probs reports at each step


def daemon_settings(settings: EvaluateSettings, model: str, media: ModelSettings, source: str) -> Settings:
    """Return the daemon's settings for an evaluation.

    Raises:
        ConfigurationError: a key is wrong; the error names it.
    """
    engine: dict[str, Any] = {"kind": "vllm", **settings.engine}
    if engine["kind"] == "vllm":
        given = dict(engine.get("args") or {})
        spelled = {str(key).lstrip("-").replace("-", "_") for key in given}
        engine = {
            "model": model,
            "tensor_parallel_size": settings.tensor_model_parallel_size,
            "pipeline_parallel_size": settings.pipeline_model_parallel_size,
            "dtype": settings.trainer.dtype,
            "quantization": vllm_quantization(settings.quantization, model),
            **engine,
            "args": {**{key: value for key, value in _ARGS.items() if key not in spelled}, **given},
        }
    place = {"kind": "folder", "path": "."}
    values = {
        "sources": {source: place},
        "sink": place,
        "windows": {"policy": "whole"},
        "frames": {"rule": "neva", "num_frames": media.frames_shown, "decoder": settings.decoder},
        "engine": engine,
        "limits": settings.limits,
        "timeouts": settings.timeouts,
    }
    return settings_from(values, folder=Path.cwd())


def prompt_of(settings: EvaluateSettings, media: ModelSettings) -> Prompt:
    """Return the prompt of all records; each replaces its text by its own."""
    wanted = settings.inference
    is_greedy = wanted.greedy or wanted.temperature == 0
    sampling: dict[str, Any] = {
        "temperature": 0.0 if is_greedy else wanted.temperature,
        "top_p": wanted.top_p if 0 < wanted.top_p < 1 and not is_greedy else 1.0,
        "top_k": 0 if is_greedy else wanted.top_k,
        # as in NeVA, which applies it only where it computes log-probabilities, and never to greedy answers
        "repetition_penalty": wanted.repetition_penalty if wanted.compute_logprob and not wanted.greedy else 1.0,
    }
    if wanted.all_probs or wanted.compute_logprob:
        sampling["logprobs"] = _TOP_TOKENS if wanted.all_probs else 0
    return Prompt(
        _STAND_IN,
        media.conv_template,
        max_tokens=wanted.tokens_to_generate,
        min_tokens=wanted.min_tokens_to_generate,
        stop=wanted.end_strings,
        seed=wanted.seed,
        **sampling,
    )


class NevaEngine(EngineWrapper):
    """An engine that prepares frames as NeVA does.

    See :class:`daemon.engines.contract.Engine` for what each method promises.
    """

    def __init__(self, engine: Engine, aspect_ratio: AspectRatio, *, legacy_bgr: bool) -> None:
        super().__init__(engine)
        self._aspect_ratio, self._legacy_bgr = aspect_ratio, legacy_bgr

    async def start(self) -> None:
        """Load the model."""
        await self._engine.start()

    async def describe(
        self, frames: FrameSet, prompt: Prompt, request_id: str, rendered: Rendered = unheeded
    ) -> Completion:
        """Prepare the frames, then ask the model."""
        prepare = partial(prepare_frames, frames.frames, self._aspect_ratio, CLIP, legacy_bgr=self._legacy_bgr)
        shown = await asyncio.to_thread(prepare)
        if shown is not frames.frames:
            shown = await asyncio.to_thread(np.ascontiguousarray, shown)
            frames = FrameSet(frames.window, shown, frames.pts_ns, frames.substituted, frames.decode_ms)
        return await self._engine.describe(frames, prompt, request_id, rendered)

    async def wait_dead(self) -> None:
        """Raise :class:`connectors.errors.EngineLost` when the engine has died."""
        await self._engine.wait_dead()

    async def close(self) -> None:
        """Stop the model."""
        await self._engine.close()
