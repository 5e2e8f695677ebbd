"""An engine without a model, under the same contract: captions are made from the frames, and faults come on request."""

import asyncio
import contextlib
import math
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from connectors.contract import TokenLogprob
from connectors.errors import ConfigurationError, EngineLost, Poison, Reason, Transient
from daemon.engines.contract import Completion, Origin, Rendered, unheeded
from daemon.engines.model.frame_size import FrameSizes
from daemon.engines.model.token_planner import Check, check_context
from daemon.frame_look import FrameSize, MaxFrameSize, PixelBudget
from daemon.prompts.prompt import Prompt
from daemon.windows import FrameSet

_TOKENS_A_FRAME = 16
_MAX_MODEL_LEN = 131_072
_KEPT = 10_000  # requests whose ids are remembered
_COURTESY_S = 0.25  # how long a request waits for a later one to be answered first


@dataclass(frozen=True, slots=True)
class FaultScript:
    """The faults of one run. Requests are counted from 1; a name is part of a request's id, which holds the clip's id.

    ``once`` names a file that is made when ``die_at_request`` or ``hang_at_request`` strikes; while it exists they do
    not, so a program that is started again gets through.
    """

    die_at_request: int | None = None  # the engine dies when it gets this one
    hang_at_request: int | None = None  # from this one on nothing is ever answered, and health stays green
    never_returns: tuple[str, ...] = ()  # these wait for ever while others are answered
    kills: tuple[str, ...] = ()  # the engine dies whenever it holds one of these
    fails: tuple[str, ...] = ()  # these fail, and may be tried again
    refuses: tuple[str, ...] = ()  # these are refused
    empty: tuple[str, ...] = ()  # the model says nothing
    cut_off: tuple[str, ...] = ()  # the answer ends at max_tokens
    says: dict[str, tuple[str, ...]] = field(default_factory=dict)  # in turn, by the question's name, "" for none
    delays_ms: dict[str, float] = field(default_factory=dict)  # instead of the engine's own, by name
    reverse_by: int = 0  # of every so many requests the last is answered first
    once: Path | None = None

    @classmethod
    def read(cls, path: Path) -> "FaultScript":
        """Read a script from a YAML file; :class:`ConfigurationError` names a key that is none."""
        try:
            given: dict[str, Any] = yaml.safe_load(path.read_text()) or {}
        except (OSError, yaml.YAMLError) as error:
            raise ConfigurationError(f"can't be read: {error}", path="engine.script") from error
        unknown = sorted(given.keys() - {one.name for one in fields(cls)})
        if unknown:
            raise ConfigurationError(f"unknown key {unknown[0]}", path="engine.script")
        names: dict[str, Any] = {key: tuple(map(str, given[key])) for key in _NAMES & given.keys()}
        names |= {"says": {key: tuple(map(str, said)) for key, said in (given.get("says") or {}).items()}}
        once = Path(given["once"]) if given.get("once") else None
        return cls(**{**given, **names, "once": once})


_NAMES = {"never_returns", "kills", "fails", "refuses", "empty", "cut_off"}


class FakeEngine:
    """Describes frames by their number, size, mean colour and times. See :class:`daemon.engines.contract.Engine`."""

    model_id, waiting_for, statistics, rendering = "fake", "", None, None

    def __init__(
        self,
        *,
        delay_ms: float = 0.0,
        slots: int = 64,
        script: FaultScript | None = None,
        check: Check = lambda _: None,
    ) -> None:
        self._delay_ms, self.slots, self.script = delay_ms, slots, script or FaultScript()
        self.planner, self._check = FakeTokenPlanner(), check
        self.progress = 0
        self.requests = deque[str](maxlen=_KEPT)  # the ids of the latest that came, in order
        self.prompts = deque[Prompt](maxlen=_KEPT)  # and what they asked
        self._said = defaultdict[str, int](int)
        self.aborted: list[str] = []
        self._dead, self._hangs, self._came = asyncio.Event(), False, 0
        self._finished = defaultdict[int, asyncio.Event](asyncio.Event)

    async def start(self) -> None:
        """Check the configuration; there is no model."""
        self._check(self.planner)

    async def describe(
        self, frames: FrameSet, prompt: Prompt, request_id: str, rendered: Rendered = unheeded
    ) -> Completion:
        """Return a text that depends on the window and its frames alone."""
        begun = time.monotonic()
        self._raise_if_dead()
        self.requests.append(request_id)
        self.prompts.append(prompt)
        self._came = number = self._came + 1
        prompt_tokens = self.planner.tokens(len(frames.frames), prompt)
        check_context(prompt_tokens, prompt.max_tokens, _MAX_MODEL_LEN)
        words, cut_off = self._words(frames, prompt, request_id)
        await rendered(0)
        self._strike(number, request_id)
        try:
            await self._wait(number, request_id)
        except asyncio.CancelledError:
            self.aborted.append(request_id)
            raise
        finally:
            if self.script.reverse_by:
                self._finished[number].set()
                self._finished.pop(number + 1, None)
        if self._named(self.script.fails, request_id):
            raise Transient("the script says so", reason="engine_refused", origin="engine")
        if self._named(self.script.refuses, request_id):
            raise Poison(Reason.ENGINE_REFUSED, "the script says so", origin="engine")
        self.progress += 1
        return Completion(
            " ".join(words),
            cut_off,
            prompt_tokens,
            len(frames.pts_ns) * _TOKENS_A_FRAME,
            len(words),
            engine_ms=(time.monotonic() - begun) * 1000,
            logprobs=() if prompt.logprobs is None else tuple(_logprob(word, prompt.logprobs) for word in words),
            origin=Origin("fake"),
        )

    def _strike(self, number: int, request_id: str) -> None:
        """Let the faults of this request happen."""
        script = self.script
        if number == script.die_at_request and self._first_time():
            self._dead.set()
        if number == script.hang_at_request and self._first_time():
            self._hangs = True
        if self._named(script.kills, request_id):
            self._dead.set()
        self._raise_if_dead()

    def _first_time(self) -> bool:
        if self.script.once is None:
            return True
        try:
            self.script.once.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    async def _wait(self, number: int, request_id: str) -> None:
        """Take as long as the model would; :class:`EngineLost` when the engine dies meanwhile."""
        if self._hangs or self._named(self.script.never_returns, request_id):
            await self._dead.wait()
        delay_ms = next((ms for name, ms in self.script.delays_ms.items() if name in request_id), self._delay_ms)
        if self.script.reverse_by and number % self.script.reverse_by:
            with contextlib.suppress(TimeoutError):  # no later request is there to go first
                await asyncio.wait_for(self._finished[number + 1].wait(), _COURTESY_S)
        if delay_ms:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._dead.wait(), delay_ms / 1000)
        if self._hangs:
            await self._dead.wait()
        self._raise_if_dead()

    def _words(self, frames: FrameSet, prompt: Prompt, request_id: str) -> tuple[list[str], bool]:
        """Return the answer's words and whether it was cut off."""
        if self._named(self.script.empty, request_id):
            return [], False
        if given := self.script.says.get(prompt.name or ""):
            number = self._said[prompt.name or ""]
            self._said[prompt.name or ""] += 1
            return [given[number % len(given)]], False
        count, height, width, _ = frames.frames.shape
        sums = frames.frames.sum(axis=(0, 1)).sum(axis=0).tolist()  # by whole lines: a tenth of the time
        red, green, blue = (round(channel / (count * height * width)) for channel in sums)
        text = (
            f"Window {frames.window.index} shows {count} frames of {width} x {height}, "
            f"mean colour #{red:02x}{green:02x}{blue:02x}, "
            f"from {frames.pts_ns[0] // 1_000_000} to {frames.pts_ns[-1] // 1_000_000} ms."
        )
        words = text.split()
        limit = len(words) // 2 if self._named(self.script.cut_off, request_id) else prompt.max_tokens
        return words[:limit], limit < len(words)

    def _named(self, names: tuple[str, ...], request_id: str) -> bool:
        return bool(names) and any(name in request_id for name in names)

    def _raise_if_dead(self) -> None:
        if self._dead.is_set():
            raise EngineLost("the fake engine died")

    async def wait_dead(self) -> None:
        await self._dead.wait()
        self._raise_if_dead()

    async def close(self) -> None:
        self._dead.set()  # what still waits finds the engine dead


def _logprob(word: str, top: int) -> TokenLogprob:
    """Return a word as the likeliest of tokens whose probabilities halve."""
    ranked = [TokenLogprob(word if rank == 0 else f"{word}~{rank}", (rank + 1) * math.log(0.5)) for rank in range(top)]
    return TokenLogprob(word, math.log(0.5), tuple(ranked))


class FakeTokenPlanner:
    """A token planner that counts the prompt's words, and 16 tokens a frame."""

    max_model_len: int | None = _MAX_MODEL_LEN
    max_frame_size: MaxFrameSize | None = None

    def __init__(self) -> None:
        self._sizes = FrameSizes(None, count=lambda num_frames, _: num_frames * _TOKENS_A_FRAME)

    def frame_size(self, num_frames: int, own: FrameSize, budget: PixelBudget) -> FrameSize:
        return self._sizes.of(num_frames, own, budget)

    def vision_tokens(self, num_frames: int, size: FrameSize) -> int | None:
        return self._sizes.tokens(num_frames, size)

    def tokens(self, num_frames: int, prompt: Prompt) -> int:
        """Return the prompt's tokens."""
        return len(f"{prompt.system or ''} {prompt.text}".split()) + num_frames * _TOKENS_A_FRAME

    def prompt_tokens(
        self, num_frames: int, height: int, width: int, prompt: Prompt, offsets_ms: tuple[int, ...] | None = None
    ) -> int | None:
        return self.tokens(num_frames, prompt)

    def writes_times(self, num_frames: int, height: int, width: int, prompt: Prompt) -> bool:
        return False

    def check(
        self, prompt: Prompt, num_frames: int, height: int, width: int, offsets_ms: tuple[int, ...] | None = None
    ) -> None:
        check_context(self.tokens(num_frames, prompt), prompt.max_tokens, _MAX_MODEL_LEN)
