"""vLLM as the engine: the only file that imports it, and inside functions alone, for it takes seconds.

Windows go in as token ids and arrays, and the final answer comes out. The engine's processes are vLLM's own; they carry
the reaper's mark, and none of them sees the terminal's Ctrl-C, which the daemon answers with a drain.
"""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any

from connectors.errors import ConfigurationError, EngineLost, Poison, Reason, Transient
from daemon.config.settings import VllmSettings
from daemon.engines import model_checks
from daemon.engines.contract import Completion, EngineStatistics
from daemon.engines.library_errors import as_configuration_error, sentence
from daemon.engines.max_frame_size import least_frames, max_frame_size
from daemon.engines.model_input import MediaForm, black_frames
from daemon.engines.reaper import EngineReaper, kill_marked
from daemon.engines.token_planner import Check, ModelTokenPlanner, check_context
from daemon.engines.vllm_args import (
    check_types,
    checked_args,
    cpu_environment,
    engine_args,
    media_limits,
    sampling_arguments,
    set_environment,
)
from daemon.engines.vllm_output import StepLogger, completion, vision_tokens
from daemon.prompts.prompt import ChatTemplate, Modality, Placeholder, Prompt, PromptEncoder
from daemon.windows import FrameSet

log = logging.getLogger(__name__)

_POLL_S = 0.2  # how soon a dead engine core is noticed where no request is waiting
_SHUTDOWN_S = 10.0  # what vLLM's processes are given to end by themselves


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model without its weights: its token planner, and the arguments that make its engine."""

    arguments: Mapping[str, Any]
    planner: ModelTokenPlanner


def argument_class() -> type[Any]:
    """Return vLLM's ``AsyncEngineArgs``."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    return AsyncEngineArgs  # type: ignore[no-any-return]


def load_model(settings: VllmSettings, max_frames: int, *, debug: bool = False) -> LoadedModel:
    """Read a model's configuration and processor, and check that they fit the settings and the machine.

    Raises:
        ConfigurationError: naming the key that is wrong.
    """
    model, _ = model_checks.resolve_model(settings)
    checked_args(settings.args)
    model_checks.check_structure(settings)
    config = model_checks.local_config(model)
    set_environment(local_model=config is not None, debug=debug)
    arguments = engine_args(settings, model, dtype=model_checks.resolve_dtype(settings, model, config))

    from vllm.multimodal import MULTIMODAL_REGISTRY

    check_types(settings.args, argument_class())
    with as_configuration_error("engine"):
        model_config = argument_class()(**arguments).create_engine_config().model_config
        if not model_config.is_multimodal_model:
            raise ConfigurationError("it takes neither images nor videos", path="engine.model")
        processor = MULTIMODAL_REGISTRY.create_processor(model_config)
        supported = processor.info.supported_mm_limits
        modality: Modality = "video" if "video" in supported else "image"
        if modality not in supported:
            raise ConfigurationError(f"it takes {', '.join(supported)}, but no images", path="engine.model")
        model_checks.check_parallel(settings, model_config.hf_config.to_dict())
        hf_processor = processor.info.get_hf_processor()
        max_size = max_frame_size(hf_processor, modality)
        planner = ModelTokenPlanner(
            _encoder(model_config, processor, modality),
            MediaForm(modality, least_frames(hf_processor, modality)),
            _counter(processor),
            max_model_len=model_config.max_model_len,
            max_frame_size=max_size,
        )
    limits = media_limits(modality, max_frames, max_size)
    return LoadedModel({**arguments, "limit_mm_per_prompt": limits}, planner)


def _encoder(model_config: Any, processor: Any, modality: Modality) -> PromptEncoder:
    """Return the encoder of a model's prompts, with the template and placeholder that vLLM would use itself."""
    from vllm.renderers.hf import resolve_chat_template, resolve_chat_template_content_format

    tokenizer = processor.info.get_tokenizer()
    source = resolve_chat_template(tokenizer, None, None, model_config=model_config)
    template = None
    if source is not None:
        form = resolve_chat_template_content_format(source, None, "auto", tokenizer, model_config=model_config)
        template = ChatTemplate(source, parts=form == "openai")
    return PromptEncoder(tokenizer, _placeholder(model_config, tokenizer, modality), template)


def _placeholder(model_config: Any, tokenizer: Any, modality: Modality) -> Placeholder:
    """Return what stands for a video or an image: the token of the model's configuration, in its class's wording.

    A checkpoint may give the class's token another name in its vocabulary; then the name in the vocabulary counts.
    """
    from vllm.model_executor.model_loader import get_model_cls

    found = [getattr(model_config.hf_config, f"{modality}_token_{word}", None) for word in ("id", "index")]
    token_id = next((value for value in found if isinstance(value, int)), None)
    text = get_model_cls(model_config).get_placeholder_str(modality, 1)
    ids = tokenizer.encode(text, add_special_tokens=False) if text else []
    if token_id is None and len(ids) == 1:
        token_id = ids[0]
    if token_id is None:
        raise ConfigurationError(f"its configuration names no {modality} token", path="engine.model")
    if not text or token_id not in ids:
        text = str(tokenizer.convert_ids_to_tokens(token_id))
    return Placeholder(modality, text, token_id)


def _counter(processor: Any) -> Callable[[list[int], Any], tuple[int, int]]:
    """Return the function that widens placeholders as the engine will and counts the tokens."""
    from vllm.multimodal.processing import ProcessorInputs, TimingContext

    def count(ids: list[int], media: Any) -> tuple[int, int]:
        items = processor.info.parse_mm_data(media)
        done = processor.apply(ProcessorInputs(ids, items), TimingContext(enabled=False))
        return len(done["prompt_token_ids"]), vision_tokens(done)

    return count


class VllmEngine:
    """A model in vLLM's ``AsyncLLM``. See :class:`daemon.engines.contract.Engine` for what each method promises."""

    waiting_for = ""  # it is there, or it is dead

    def __init__(
        self, settings: VllmSettings, *, max_frames: int, debug: bool = False, check: Check = lambda _: None
    ) -> None:
        self._settings, self._max_frames, self._debug, self._check = settings, max_frames, debug, check
        _, self.model_id = model_checks.resolve_model(settings)
        self.slots = 2  # until the model is there and says how many it takes
        self.statistics = EngineStatistics()
        self._reaper = EngineReaper()
        self._llm: Any = None
        self._launching: asyncio.Future[Any] | None = None
        self._planner: ModelTokenPlanner | None = None

    @property
    def planner(self) -> ModelTokenPlanner:
        """The planner of the model that runs; only after :meth:`start`."""
        if self._planner is None:
            raise RuntimeError("the engine has not started")
        return self._planner

    @property
    def progress(self) -> int:
        """A count that rises with every completion and every step of the engine."""
        return self.statistics.steps + self.statistics.completions

    async def start(self) -> None:
        """Load the model in vLLM's own processes and answer one warm-up request.

        Raises:
            ConfigurationError: model and settings do not fit each other or the machine.
            EngineLost: the engine's processes did not come up.
        """
        loaded = await asyncio.to_thread(load_model, self._settings, self._max_frames, debug=self._debug)
        self._planner = loaded.planner
        await asyncio.to_thread(self._check, loaded.planner)
        self._launching = asyncio.ensure_future(asyncio.to_thread(self._launch, loaded))
        self._llm = await asyncio.shield(self._launching)  # a thread can't be cancelled: close() waits for it
        self.slots = 2 * int(self._llm.vllm_config.scheduler_config.max_num_seqs)
        await self._warm_up()

    def _launch(self, loaded: LoadedModel) -> Any:
        """Start vLLM's processes from a thread of their own.

        1. The resource tracker of multiprocessing runs before signals are blocked, for its start unblocks them.
        2. SIGINT is blocked in this thread, so the processes inherit it blocked: Ctrl-C drains, it kills no engine.
        3. The processes inherit the reaper's mark, and what the CPU needs, from the environment.
        """
        from vllm.v1.engine.async_llm import AsyncLLM

        wanted = cpu_environment(self._settings, model_checks.cpu_cores()) if model_checks.runs_on_cpu() else {}
        resource_tracker.ensure_running()
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        os.environ.update(wanted)
        try:
            with self._reaper, as_configuration_error("engine"):
                return AsyncLLM.from_engine_args(
                    argument_class()(**loaded.arguments), stat_loggers=[StepLogger(self.statistics)]
                )
        except RuntimeError as error:
            raise EngineLost(f"the engine did not come up: {sentence(error)}") from error
        finally:
            for name in wanted:
                os.environ.pop(name, None)
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)

    async def _warm_up(self) -> None:
        """Describe black frames once, so that the first clip does not pay for what is made at the first request."""
        try:
            await self.describe(black_frames(self._max_frames), Prompt("Describe.", max_tokens=1), "warm-up")
        except Poison as fault:
            if fault.reason != Reason.PROMPT:  # a model without a chat template is warmed up by its first clip
                message = f"it can't describe {self._max_frames} frames: {fault.detail}"
                raise ConfigurationError(message, path="engine") from fault

    async def describe(self, frames: FrameSet, prompt: Prompt, request_id: str) -> Completion:
        """Return the model's answer for one window."""
        with self._translated():
            rendered = await self._render(frames, prompt)
            prompt_tokens = len(rendered["prompt_token_ids"])
            check_context(prompt_tokens, prompt.max_tokens, self._llm.model_config.max_model_len)
            final = None
            async for output in self._llm.generate(rendered, self._sampling(prompt), request_id):
                final = output
        if final is None:
            raise Transient("the engine gave no answer", reason=Reason.ENGINE_REFUSED, origin="engine")
        self.statistics.completions += 1
        return completion(final, prompt_tokens, vision_tokens(rendered), top=prompt.logprobs)

    async def _render(self, frames: FrameSet, prompt: Prompt) -> Any:
        """Return the request as vLLM's processor makes it; vLLM runs it in a thread."""
        form = self.planner.form
        ids = self.planner.encoder.encode(prompt, form.items(len(frames.frames)))
        one = {"prompt_token_ids": ids, "multi_modal_data": form.window_media(frames)}
        (rendered,) = await self._llm.renderer.render_cmpl_async([one])
        return rendered

    def _sampling(self, prompt: Prompt) -> Any:
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        arguments = sampling_arguments(prompt, self.planner.encoder.stop(prompt))
        return SamplingParams(**arguments, output_kind=RequestOutputKind.FINAL_ONLY)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Translate vLLM's errors into ours, once."""
        from vllm.exceptions import GracefulHTTPError, VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        try:
            yield
        except EngineDeadError as error:
            raise EngineLost("the engine's process died") from error
        except EngineGenerateError as error:
            cause = error.__cause__ or error
            raise Transient(sentence(cause), reason=Reason.ENGINE_REFUSED, origin="engine") from error
        except GracefulHTTPError as error:  # a queue of its own that is full
            raise Transient(sentence(error), reason=Reason.ENGINE_REFUSED, origin="engine") from error
        except (VLLMClientError, ValueError, TypeError, RuntimeError) as error:
            if self._llm.errored:
                raise EngineLost("the engine's process died") from error
            raise Poison(Reason.ENGINE_REFUSED, sentence(error), origin="engine") from error

    async def wait_dead(self) -> None:
        """Raise :class:`EngineLost` when the engine's process has died."""
        while not (self._llm is not None and self._llm.errored):  # noqa: ASYNC110  vLLM has no event for it
            await asyncio.sleep(_POLL_S)
        raise EngineLost("the engine's process died")

    async def close(self) -> None:
        """Stop the model and every process of it."""
        llm = await self._launched()
        self._llm = self._launching = None
        if llm is not None:
            if llm.output_handler is not None:
                llm.output_handler.cancel()  # else it takes the stop for a death, and says so
            stopping = threading.Thread(target=llm.shutdown, kwargs={"timeout": _SHUTDOWN_S / 2}, daemon=True)
            stopping.start()
            await asyncio.to_thread(stopping.join, _SHUTDOWN_S)
        left = await asyncio.to_thread(self._reaper.close)
        if left:
            log.warning("%d processes of the engine did not end by themselves and were killed.", left)

    async def _launched(self) -> Any:
        """Return vLLM if it came up. A start that still goes on is ended by taking its processes away."""
        if self._launching is None:
            return None
        while not self._launching.done():
            await asyncio.to_thread(kill_marked, self._reaper.mark)
            await asyncio.wait({self._launching}, timeout=_POLL_S)
        return None if self._launching.exception() else self._launching.result()
