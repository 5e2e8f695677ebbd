"""The contract of every engine: it describes the frames of one window, and says how it is."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from connectors.contract import TokenLogprob
from daemon.engines.model.token_planner import TokenPlanner
from daemon.prompts.prompt import Prompt
from daemon.windows import FrameSet


@dataclass(frozen=True, slots=True)
class Origin:
    """An answer's origin, for traces: the provider's name, the server's URL, and what it calls model and answer."""

    provider: str = "vllm"
    server: str = ""
    model: str = ""
    answer: str = ""


LOCAL = Origin()


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer. ``truncated`` says that it ended at ``max_tokens``; times are in milliseconds.

    ``detail`` is a word about an answer whose text does not speak for itself. Of the ``output_tokens`` so many as
    ``reasoning_tokens`` led to the answer and are none of it.
    ``looping`` says that the engine stopped an answer that repeats itself, ``refusal`` holds a model's own words where
    it declines. ``logprobs`` holds one entry for each of the ``output_tokens`` where the prompt asks for them. Where it
    came from is the ``origin``.
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
    render_queue_ms: float = 0.0
    render_ms: float = 0.0
    looping: bool = False
    refusal: str = ""
    origin: "Origin" = field(default=LOCAL, repr=False, compare=False)


@dataclass
class ReplicaStatistics:
    """The statistics that one replica of the model last gave. ``kv_cache_usage`` is a share of 1."""

    steps: int = 0
    running: int = 0
    waiting: int = 0
    kv_cache_usage: float = 0.0
    prefix_hits: int = 0  # tokens of prompts that were there already


@dataclass(frozen=True, slots=True)
class RenderingState:
    """What an engine's renderers are doing now: processes that run, windows that wait for one, and are rendered.

    ``done`` counts the windows that were rendered or refused, ``replaced`` the processes that died and whose place
    another took.
    """

    processes: int = 0
    waiting: int = 0
    at_work: int = 0
    replaced: int = 0
    done: int = 0


def reads_shared_frames(engine: "Engine") -> bool:
    """Whether processes of the engine's read frames out of their memory files."""
    return engine.rendering is not None and engine.rendering.processes > 0


# called with the bytes that the engine holds instead of the frames until it answers
Rendered = Callable[[int], Awaitable[None]]


async def unheeded(size_bytes: int) -> None:
    """Take no notice that frames were rendered."""


@dataclass
class EngineStatistics:
    """The statistics of all replicas of the model, by their number; an engine without replicas has one.

    ``handed_over`` returns how many requests each replica was given and has not ended, where the engine knows: a
    replica that hangs before its first step with a request has said nothing of it.
    """

    completions: int = 0
    replicas: dict[int, ReplicaStatistics] = field(default_factory=dict)
    handed_over: Callable[[], Mapping[int, int]] = field(default=dict, repr=False)

    @property
    def steps(self) -> int:
        return sum(one.steps for one in self.replicas.values())

    @property
    def prefix_hits(self) -> int:
        return sum(one.prefix_hits for one in self.replicas.values())

    @property
    def running(self) -> int:
        return sum(one.running for one in self.replicas.values())

    @property
    def waiting(self) -> int:
        return sum(one.waiting for one in self.replicas.values())

    @property
    def kv_cache_usage(self) -> float:
        """The share of all replicas' caches together, which are of one size."""
        return sum(one.kv_cache_usage for one in self.replicas.values()) / max(1, len(self.replicas))

    def held(self) -> dict[int, int]:
        """Return how many requests each replica holds: those it was given, or those it last spoke of where more."""
        given = self.handed_over()
        return {number: max(one.running + one.waiting, given.get(number, 0)) for number, one in self.replicas.items()}


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
        """The number of requests that keep it busy: 2 x max_num_seqs a replica for vLLM. Final after :meth:`start`."""
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
    def rendering(self) -> RenderingState | None:
        """The state of the renderers; None for an engine without any."""
        ...

    @property
    def planner(self) -> TokenPlanner:
        """The planner of a window's tokens. Only after :meth:`start`."""
        ...

    async def start(self) -> None:
        """Load the model and answer one warm-up request."""
        ...

    async def describe(
        self, frames: FrameSet, prompt: Prompt, request_id: str, rendered: Rendered = unheeded
    ) -> Completion:
        """Return the model's answer for one window. ``request_id`` is unique and begins with the clip's id.

        ``rendered`` is awaited once, when the window is rendered and before the model gets it: from then on the frames
        are not looked at, and their memory may go.
        """
        ...

    async def wait_dead(self) -> None:
        """Raise :class:`EngineLost` when the engine has died; never return before."""
        ...

    async def close(self) -> None:
        """Stop the model and every process of it. Safe to call again, and at any moment of :meth:`start`."""
        ...
