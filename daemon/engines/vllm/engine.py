"""vLLM as the engine.

Windows go in as token ids and arrays, and the final answer comes out. The engine's processes are vLLM's own; they carry
the reaper's mark, and none of them sees the terminal's Ctrl-C, which the daemon answers with a drain.
"""

import asyncio
import logging
import os
import signal
import threading
from multiprocessing import resource_tracker
from typing import Any

from connectors.errors import ConfigurationError, EngineLost, Poison, Reason, Transient
from daemon.config.engine_settings import VllmSettings
from daemon.engines.contract import Completion, EngineStatistics
from daemon.engines.library_errors import as_configuration_error, sentence
from daemon.engines.model import checks
from daemon.engines.model.media_form import black_frames
from daemon.engines.model.token_planner import Check, ModelTokenPlanner, check_context
from daemon.engines.vllm import library
from daemon.engines.vllm.args import cpu_environment, sampling_arguments
from daemon.engines.vllm.load import LoadedModel, load_model
from daemon.engines.vllm.output import StepLogger, completion, vision_tokens
from daemon.engines.vllm.reaper import EngineReaper, kill_marked
from daemon.prompts.prompt import Prompt
from daemon.windows import FrameSet

log = logging.getLogger(__name__)

_POLL_S = 0.2  # how soon a dead engine core is noticed where no request is waiting
_SHUTDOWN_S = 10.0  # what vLLM's processes are given to end by themselves


class VllmEngine:
    """A model in vLLM's ``AsyncLLM``. See :class:`daemon.engines.contract.Engine` for what each method promises."""

    waiting_for = ""  # it is there, or it is dead

    def __init__(
        self, settings: VllmSettings, *, max_frames: int, debug: bool = False, check: Check = lambda _: None
    ) -> None:
        self._settings, self._max_frames, self._debug, self._check = settings, max_frames, debug, check
        _, self.model_id = checks.resolve_model(settings)
        self.slots = 2  # until the model is there and says how many it takes
        self.statistics = EngineStatistics()
        self._reaper = EngineReaper()
        self._llm: Any = None
        self._launching: asyncio.Future[Any] | None = None
        self._planner: ModelTokenPlanner | None = None
        self._adapter: Any = None

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
        self._adapter = library.adapter_of(loaded.arguments, loaded.planner.form.modality)
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
        wanted = cpu_environment(self._settings, checks.cpu_cores()) if checks.runs_on_cpu() else {}
        resource_tracker.ensure_running()
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        os.environ.update(wanted)
        try:
            with self._reaper, as_configuration_error("engine"):
                return library.launch(dict(loaded.arguments), StepLogger(self.statistics))
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
        with library.translated(lambda: bool(self._llm.errored)):
            rendered = await self._render(frames, prompt)
            prompt_tokens = len(rendered["prompt_token_ids"])
            check_context(prompt_tokens, prompt.max_tokens, self._llm.model_config.max_model_len)
            final = None
            async for output in self._llm.generate(
                rendered, self._sampling(prompt), request_id, lora_request=self._adapter
            ):
                final = output
        if final is None:
            raise Transient("the engine gave no answer", reason=Reason.ENGINE_REFUSED, origin="engine")
        self.statistics.completions += 1
        return completion(final, prompt_tokens, vision_tokens(rendered), top=prompt.logprobs)

    async def _render(self, frames: FrameSet, prompt: Prompt) -> Any:
        """Return the request as vLLM's processor makes it; vLLM runs it in a thread."""
        form = self.planner.form
        ids = self.planner.encoder.encode(prompt, form.items(len(frames.frames)))
        media = form.window_media(frames)
        arguments = form.processor_arguments(media)
        one = {"prompt_token_ids": ids, "multi_modal_data": media, "mm_processor_kwargs": arguments}
        (rendered,) = await self._llm.renderer.render_cmpl_async([one])
        return rendered

    def _sampling(self, prompt: Prompt) -> Any:
        return library.sampling_params(sampling_arguments(prompt, self.planner.encoder.stop(prompt)))

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
