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

from connectors.errors import EngineLost, Reason, Transient
from daemon.config.engine_settings import VllmSettings
from daemon.engines.contract import Completion, EngineStatistics, Rendered, unheeded
from daemon.engines.library_errors import as_configuration_error, sentence
from daemon.engines.model import checks
from daemon.engines.model.token_planner import Check, EncoderBudget, ModelTokenPlanner, PlannedTokens
from daemon.engines.model.window_shapes import ExpectedWindows
from daemon.engines.vllm import library
from daemon.engines.vllm.answers import AnswerReader
from daemon.engines.vllm.args import checked_args, cpu_environment
from daemon.engines.vllm.error_log import ErrorLog, may_collect
from daemon.engines.vllm.load import LoadedModel, load_model
from daemon.engines.vllm.output import StepLogger, completion, vision_tokens
from daemon.engines.vllm.reaper import MARK, EngineReaper, kill_marked
from daemon.engines.vllm.start_faults import oom_kills, start_fault
from daemon.engines.vllm.warm_up import warm_up
from daemon.engines.vllm.window_renderer import WindowRenderer
from daemon.prompts.prompt import Prompt
from daemon.windows import FrameSet

log = logging.getLogger(__name__)

_POLL_S = 0.2  # how soon a dead engine core is noticed where no request is waiting
_COPIES = 2  # of a rendered window: one here, which the request keeps, and one in the engine's process
_END_S = 1.0  # what vLLM's processes are given to end by themselves: tearing Python down takes them five, for nothing
_SHUTDOWN_S = 10.0  # what all of the shutdown is given, Ray's too


class VllmEngine(WindowRenderer):
    """A model in vLLM's ``AsyncLLM``. See :class:`daemon.engines.contract.Engine` for what each method promises."""

    waiting_for = ""  # it is there, or it is dead

    def __init__(
        self,
        settings: VllmSettings,
        *,
        max_frames: int,
        windows: ExpectedWindows | None = None,
        render_deadline_s: float = 120.0,
        debug: bool = False,
        check: Check = lambda _: None,
        names_windows: bool = False,
    ) -> None:
        super().__init__()
        # caches are there for several questions about one window, then: no other window is like it
        self._names_windows = names_windows
        self._settings, self._max_frames, self._debug, self._check = settings, max_frames, debug, check
        self._windows = windows
        self._render_deadline_s = render_deadline_s
        _, self.model_id = checks.resolve_model(settings)
        self.slots = 2  # until the model is there and says how many it takes
        self.statistics = EngineStatistics()
        self._reaper = EngineReaper()
        self._llm: Any = None
        self._launching: asyncio.Future[Any] | None = None
        self._answers: AnswerReader | None = None
        self._adapter: Any = None

    @property
    def answers(self) -> AnswerReader:
        """The reader of the model's answers; only after :meth:`start`."""
        if self._answers is None:
            raise RuntimeError("the engine has not started")
        return self._answers

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
        loaded = await asyncio.to_thread(
            load_model, self._settings, self._max_frames, windows=self._windows, debug=self._debug
        )
        self._planner, self._answers = loaded.planner, loaded.answers
        self._adapter = library.adapter_of(loaded.arguments, loaded.planner.form.modality)
        await asyncio.to_thread(self._check, loaded.planner)
        await asyncio.to_thread(loaded.answers.prepare)
        errors, kills = ErrorLog(), oom_kills()
        try:
            await self._bring_up(loaded, errors)
        except EngineLost as lost:
            raise start_fault(errors.cause(), lost, oom_kills=oom_kills() - kills) from lost
        finally:
            errors.close()

    async def _bring_up(self, loaded: LoadedModel, errors: ErrorLog) -> None:
        """Start vLLM and the renderers, and describe what will come once a replica."""
        self._launching = asyncio.ensure_future(asyncio.to_thread(self._launch, loaded, errors))
        self._llm = await asyncio.shield(self._launching)  # a thread can't be cancelled: close() waits for it
        each = 2 * int(self._llm.vllm_config.scheduler_config.max_num_seqs)
        self.slots = each * len(library.replicas(self._llm))
        self.statistics.handed_over = lambda: {} if self._llm is None else library.handed_over(self._llm)
        await self._learn_room(loaded.planner)
        mark = {MARK: self._reaper.mark}
        await self.start_renderers(self._llm, self._settings.renderers, mark, self._render_deadline_s)
        self._by_content = self._by_content and not self._names_windows
        await warm_up(self, loaded.planner, loaded.windows, replicas=len(self.statistics.replicas))

    def _launch(self, loaded: LoadedModel, errors: ErrorLog) -> Any:
        """Start vLLM's processes from a thread of their own.

        1. The resource tracker of multiprocessing runs before signals are blocked, for its start unblocks them.
        2. SIGINT is blocked in this thread, so the processes inherit it blocked: Ctrl-C drains, it kills no engine.
        3. The processes inherit from the environment the reaper's mark, what the CPU needs, and where errors go.
        """
        wanted = cpu_environment(self._settings, checks.cpu_cores()) if checks.runs_on_cpu() else {}
        if may_collect(checked_args(self._settings.args), os.environ):
            wanted |= errors.open(library.logging_config(), os.environ)
        resource_tracker.ensure_running()
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            with self._reaper, as_configuration_error("engine"):
                return library.launch(dict(loaded.arguments), StepLogger(self.statistics))
        except RuntimeError as error:
            raise EngineLost(f"the engine did not come up: {sentence(error)}") from error
        finally:
            for name, value in before.items():
                os.environ.pop(name, None) if value is None else os.environ.update({name: value})
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)

    async def _learn_room(self, planner: ModelTokenPlanner) -> None:
        """Take over what the encoder and the context have room for; ask again whether the prompts fit a shorter one."""
        tokens = int(self._llm.input_processor.mm_encoder_cache_size)
        planner.encoder_budget = EncoderBudget(tokens, lambda: tokens)
        longest = int(self._llm.model_config.max_model_len)
        if planner.max_model_len != longest:
            log.info("Memory holds a context of %d tokens of the model's %s.", longest, planner.max_model_len)
            planner.max_model_len = longest
            await asyncio.to_thread(self._check, planner)

    async def describe(
        self, frames: FrameSet, prompt: Prompt, request_id: str, rendered: Rendered = unheeded
    ) -> Completion:
        """Return the model's answer for one window."""
        with library.translated(lambda: bool(self._llm.errored)):
            async with self.rendered(frames, prompt, request_id) as window:
                planned = PlannedTokens(len(window.input["prompt_token_ids"]), vision_tokens(window.input))
                self.planner.check_planned(planned, len(frames.frames), prompt)
                await rendered(_COPIES * window.size_bytes)
            final = None
            async for output in self._llm.generate(
                window.input, self._sampling(prompt), request_id, lora_request=self._adapter
            ):
                final = output
        if final is None:
            raise Transient("the engine gave no answer", reason=Reason.ENGINE_REFUSED, origin="engine")
        self.statistics.completions += 1
        done = completion(final, planned.prompt_tokens, planned.vision_tokens, top=prompt.logprobs)
        done = self.answers.read(done, prompt)
        return replace(done, render_queue_ms=window.queue_ms, render_ms=window.render_ms)

    def _sampling(self, prompt: Prompt) -> Any:
        return library.sampling_params(self.answers.sampling(prompt))

    async def wait_dead(self) -> None:
        """Raise :class:`EngineLost` when the engine's process has died, or nothing can be rendered any more."""
        while not (self._llm is not None and self._llm.errored):  # vLLM has no event for it
            if self._rendering is not None and self._rendering.lost:
                raise EngineLost("a renderer died and another does not start")
            await asyncio.sleep(_POLL_S)
        raise EngineLost("the engine's process died")

    async def close(self) -> None:
        """Stop the model and every process of it."""
        await self.end_renderers()
        llm = await self._launched()
        self._llm = self._launching = None
        if llm is not None:
            if llm.output_handler is not None:
                llm.output_handler.cancel()  # else it takes the stop for a death, and says so
            stopping = threading.Thread(target=llm.shutdown, kwargs={"timeout": _END_S}, daemon=True)
            stopping.start()
            await asyncio.to_thread(stopping.join, _SHUTDOWN_S)
        left = await asyncio.to_thread(self._reaper.close)
        if left:
            log.debug("%d processes of the engine were killed.", left)

    async def _launched(self) -> Any:
        """Return vLLM if it came up. A start that still goes on is ended by taking its processes away."""
        if self._launching is None:
            return None
        while not self._launching.done():
            await asyncio.to_thread(kill_marked, self._reaper.mark)
            await asyncio.wait({self._launching}, timeout=_POLL_S)
        return None if self._launching.exception() else self._launching.result()
