"""vLLM as the engine.

Windows go in as token ids and arrays, and the final answer comes out. The engine's processes are vLLM's own; they carry
the reaper's mark, and none of them sees the terminal's Ctrl-C, which the daemon answers with a drain.
"""

import asyncio
import logging
import os
import signal
import threading
from dataclasses import replace
from multiprocessing import resource_tracker
from typing import Any

from connectors.errors import ConfigurationError, EngineLost, Poison, Reason, Transient
from daemon.config.engine_settings import VllmSettings
from daemon.engines.contract import Completion, EngineStatistics, Rendered, RenderingState, unheeded
from daemon.engines.library_errors import as_configuration_error, sentence
from daemon.engines.model import checks
from daemon.engines.model.media_form import black_frames
from daemon.engines.model.token_planner import Check, ModelTokenPlanner, check_context
from daemon.engines.rendering.choice import start_rendering
from daemon.engines.rendering.in_process import Rendering
from daemon.engines.rendering.job import RenderJob
from daemon.engines.vllm import library
from daemon.engines.vllm.args import cpu_environment, sampling_arguments
from daemon.engines.vllm.load import LoadedModel, load_model
from daemon.engines.vllm.output import StepLogger, completion, vision_tokens
from daemon.engines.vllm.reaper import MARK, EngineReaper, kill_marked
from daemon.prompts.prompt import Prompt
from daemon.windows import FrameSet

log = logging.getLogger(__name__)

_POLL_S = 0.2  # how soon a dead engine core is noticed where no request is waiting
_COPIES = 2  # of a rendered window: one here, which the request keeps, and one in the engine's process
_SHUTDOWN_S = 10.0  # what vLLM's processes are given to end by themselves


class VllmEngine:
    """A model in vLLM's ``AsyncLLM``. See :class:`daemon.engines.contract.Engine` for what each method promises."""

    waiting_for = ""  # it is there, or it is dead

    def __init__(
        self,
        settings: VllmSettings,
        *,
        max_frames: int,
        render_deadline_s: float = 120.0,
        debug: bool = False,
        check: Check = lambda _: None,
    ) -> None:
        self._settings, self._max_frames, self._debug, self._check = settings, max_frames, debug, check
        self._render_deadline_s = render_deadline_s
        _, self.model_id = checks.resolve_model(settings)
        self.slots = 2  # until the model is there and says how many it takes
        self.statistics = EngineStatistics()
        self._reaper = EngineReaper()
        self._llm: Any = None
        self._launching: asyncio.Future[Any] | None = None
        self._planner: ModelTokenPlanner | None = None
        self._rendering: Rendering | None = None

    @property
    def planner(self) -> ModelTokenPlanner:
        """The planner of the model that runs; only after :meth:`start`."""
        if self._planner is None:
            raise RuntimeError("the engine has not started")
        return self._planner

    @property
    def rendering(self) -> RenderingState | None:
        """The state of the renderers; None before they are there."""
        return None if self._rendering is None else self._rendering.state

    @property
    def _renderers(self) -> Rendering:
        if self._rendering is None:
            raise EngineLost("the engine was stopped")
        return self._rendering

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
        each = 2 * int(self._llm.vllm_config.scheduler_config.max_num_seqs)
        self.slots = each * len(library.replicas(self._llm))
        self.statistics.handed_over = lambda: {} if self._llm is None else library.handed_over(self._llm)
        self._rendering = await start_rendering(
            self._llm, self._settings.renderers, {MARK: self._reaper.mark}, self._render_deadline_s
        )
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
        """Describe black frames once a replica, so that no clip pays for what is made at the first request."""
        frames, ask = black_frames(self._max_frames), Prompt("Describe.", max_tokens=1)
        names = [f"warm-up/{number}" for number in self.statistics.replicas]
        try:  # at once, so that vLLM gives one to each
            await asyncio.gather(*(self.describe(frames, ask, name) for name in names))
        except Poison as fault:
            if fault.reason != Reason.PROMPT:  # a model without a chat template is warmed up by its first clip
                message = f"it can't describe {self._max_frames} frames: {fault.detail}"
                raise ConfigurationError(message, path="engine") from fault

    async def describe(
        self, frames: FrameSet, prompt: Prompt, request_id: str, rendered: Rendered = unheeded
    ) -> Completion:
        """Return the model's answer for one window."""
        with library.translated(lambda: bool(self._llm.errored)):
            job = self._job(frames, prompt, request_id)
            async with self._renderers.rendered(job, frames) as window:
                prompt_tokens = len(window.input["prompt_token_ids"])
                check_context(prompt_tokens, prompt.max_tokens, self._llm.model_config.max_model_len)
                await rendered(_COPIES * window.size_bytes)
            final = None
            async for output in self._llm.generate(window.input, self._sampling(prompt), request_id):
                final = output
        if final is None:
            raise Transient("the engine gave no answer", reason=Reason.ENGINE_REFUSED, origin="engine")
        self.statistics.completions += 1
        done = completion(final, prompt_tokens, vision_tokens(window.input), top=prompt.logprobs)
        return replace(done, render_queue_ms=window.queue_ms, render_ms=window.render_ms)

    def _job(self, frames: FrameSet, prompt: Prompt, request_id: str) -> RenderJob:
        """Return what vLLM's processor is asked to make of a window."""
        form = self.planner.form
        ids = self.planner.encoder.encode(prompt, form.items(len(frames.frames)))
        return RenderJob.of(frames, ids, form, request_id, by_content=library.hashes_media(self._llm.vllm_config))

    def _sampling(self, prompt: Prompt) -> Any:
        return library.sampling_params(sampling_arguments(prompt, self.planner.encoder.stop(prompt)))

    async def wait_dead(self) -> None:
        """Raise :class:`EngineLost` when the engine's process has died, or nothing can be rendered any more."""
        while not (self._llm is not None and self._llm.errored):  # vLLM has no event for it
            if self._rendering is not None and self._rendering.lost:
                raise EngineLost("a renderer died and another does not start")
            await asyncio.sleep(_POLL_S)
        raise EngineLost("the engine's process died")

    async def close(self) -> None:
        """Stop the model and every process of it."""
        rendering, self._rendering = self._rendering, None
        if rendering is not None:
            await rendering.close()
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
