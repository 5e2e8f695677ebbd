"""The host's side of an engine, without the model: windows are rendered and handed over as vLLM's are.

It has the model's configuration and processor. A process takes the rendered tensors as vLLM's engine takes them, and
says nothing: so what is measured is all that a host does for a GPU.
"""

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from connectors.errors import EngineLost
from daemon.config.engine_settings import VllmSettings
from daemon.engines.contract import Completion, EngineStatistics, Rendered, unheeded
from daemon.engines.model import checks
from daemon.engines.vllm import library
from daemon.engines.vllm.load import load_model
from daemon.engines.vllm.output import vision_tokens
from daemon.engines.vllm.receiver import SIZE, TAKEN
from daemon.engines.vllm.window_renderer import WindowRenderer
from daemon.prompts.prompt import Prompt
from daemon.windows import FrameSet

_ROOT = Path(__file__).resolve().parents[3]  # the folder that holds the package daemon
_SLOTS = 64
_START_S = 300.0  # the process imports vLLM


class HostEngine(WindowRenderer):
    """Renders windows and hands them over. See :class:`daemon.engines.contract.Engine` for what methods promise."""

    waiting_for = ""

    def __init__(self, settings: VllmSettings, *, max_frames: int, render_deadline_s: float) -> None:
        super().__init__()
        self._settings, self._max_frames, self._deadline_s = settings, max_frames, render_deadline_s
        _, self.model_id = checks.resolve_model(settings, weights=False)
        self.slots, self.progress = _SLOTS, 0
        self.statistics: EngineStatistics | None = None
        self.pixels = 0  # of the frames of all windows
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._socket: socket.socket | None = None

    @property
    def renderer_pids(self) -> list[int]:
        """The processes that render; none where this one does."""
        return list(getattr(self._rendering, "pids", ()))

    @property
    def receiver_pid(self) -> int:
        """The process that takes the rendered windows."""
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        """Read the model's processor, and start the renderers and the process that takes what they make."""
        loaded = await asyncio.to_thread(load_model, self._settings, self._max_frames, weights=False)
        self._planner = loaded.planner
        configuration = await asyncio.to_thread(library.configuration_of, dict(loaded.arguments))
        renderer = library.renderer_of(library.packed_configuration(configuration))
        host = SimpleNamespace(vllm_config=configuration, renderer=renderer)
        await self.start_renderers(host, self._settings.renderers, {}, self._deadline_s)
        await self._start_receiver()

    async def _start_receiver(self) -> None:
        ours, theirs = socket.socketpair()
        self._socket = ours
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "daemon.engines.vllm.receiver", str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=2,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": str(_ROOT), "CUDA_VISIBLE_DEVICES": ""},
                start_new_session=True,
            )
        async with asyncio.timeout(_START_S):
            await asyncio.to_thread(self._until_taken)

    async def describe(
        self, frames: FrameSet, prompt: Prompt, request_id: str, rendered: Rendered = unheeded
    ) -> Completion:
        """Render one window and hand it over; the answer is empty."""
        self.pixels += frames.frames.size // 3
        with library.translated(lambda: False):
            async with self.rendered(frames, prompt, request_id) as window:
                await rendered(window.size_bytes)
            async with self._turn:
                begun_s = time.monotonic()
                await asyncio.to_thread(self._hand_over, library.encoded(window.input))
                took_s = time.monotonic() - begun_s
        self.progress += 1
        prompt_tokens, seen = len(window.input["prompt_token_ids"]), vision_tokens(window.input)
        return Completion(
            *("", False, prompt_tokens, seen, 0),
            engine_ms=took_s * 1000,
            render_queue_ms=window.queue_ms,
            render_ms=window.render_ms,
        )

    def _hand_over(self, buffers: Sequence[Any]) -> None:
        """Send a rendered window's buffers, and wait until they are taken apart."""
        if self._socket is None:
            raise EngineLost("the engine was stopped")
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        self._socket.sendall(b"".join(map(SIZE.pack, [len(views), *(view.nbytes for view in views)])))
        for view in views:
            self._socket.sendall(view)
        self._until_taken()

    def _until_taken(self) -> None:
        if self._socket is None or self._socket.recv(1) != TAKEN:
            raise EngineLost("the process that takes rendered windows died")

    async def wait_dead(self) -> None:
        """Never return: a process that died is met by the next window."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """End the renderers and the process that takes what they make."""
        await self.end_renderers()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
