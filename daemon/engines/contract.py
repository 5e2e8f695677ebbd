"""The contract of every engine: it describes the frames of one window, and says how it is."""

from dataclasses import dataclass, field
from typing import Protocol

from connectors.contract import TokenLogprob
from daemon.engines.model.token_planner import TokenPlanner
from daemon.prompts.prompt import Prompt
from daemon.windows import FrameSet


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer. ``truncated`` says that it ended at ``max_tokens``; times are in milliseconds.

    ``detail`` is a word about an answer whose text does not speak for itself. Of the ``output_tokens`` so many as
    ``reasoning_tokens`` led to the answer and are none of it.
    ``logprobs`` holds one entry for each of the ``output_tokens`` where the prompt asks for them.
    """

    text: str
    truncated: bool
    prompt_tokens: int
    vision_tokens: int
    output_tokens: int
    queue_ms: float = 0.0
    engine_ms: float = 0.0
    token_ids: tuple[int, ...] = field(default=(), repr=False)
    logprobs: tuple[TokenLogprob, ...] = field(default=(), repr=False)
    detail: str = ""
    reasoning_tokens: int = 0


@dataclass
class EngineStatistics:
    """The statistics that the engine last gave. ``kv_cache_usage`` is a share of 1."""

    steps: int = 0
    completions: int = 0
    running: int = 0
    waiting: int = 0
    kv_cache_usage: float = 0.0


class Engine(Protocol):
    """A model that describes frame sets, many at once.

    ``describe`` raises :class:`Poison` for a request that can never work, :class:`Transient` for one that may work when
    tried again, and :class:`EngineLost` once the engine is dead. Cancelling it aborts the request in the model.
    """

    @property
    def model_id(self) -> str:
        """The name that messages give the model."""
        ...

    @property
    def slots(self) -> int:
        """The number of requests that keep it busy: 2 x max_num_seqs for vLLM. Final after :meth:`start`."""
        ...

    @property
    def progress(self) -> int:
        """A count that never falls and rises with every completion and every step: what watchdogs look at."""
        ...

    @property
    def waiting_for(self) -> str:
        """The outage that is waited for now, for people; empty when there is none."""
        ...

    @property
    def statistics(self) -> EngineStatistics | None:
        """The statistics that the engine last gave; None for one that gives none."""
        ...

    @property
    def planner(self) -> TokenPlanner:
        """The planner of a window's tokens. Only after :meth:`start`."""
        ...

    async def start(self) -> None:
        """Load the model and answer one warm-up request."""
        ...

    async def describe(self, frames: FrameSet, prompt: Prompt, request_id: str) -> Completion:
        """Return the model's answer for one window. ``request_id`` is unique and begins with the clip's id."""
        ...

    async def wait_dead(self) -> None:
        """Raise :class:`EngineLost` when the engine has died; never return before."""
        ...

    async def close(self) -> None:
        """Stop the model and every process of it. Safe to call again, and at any moment of :meth:`start`."""
        ...
