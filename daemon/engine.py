"""What a model must do for the pipeline: describe one window's frames."""

from dataclasses import dataclass
from typing import Protocol

from daemon.prompt import Prompt
from daemon.windows import FrameSet


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer. ``cut_off`` says that it ended at ``max_tokens``; times are in milliseconds."""

    text: str
    cut_off: bool
    prompt_tokens: int
    vision_tokens: int
    output_tokens: int
    queue_ms: float = 0.0
    engine_ms: float = 0.0


class Engine(Protocol):
    """A model that describes frame sets, many at once.

    ``describe`` raises :class:`Poison` for a request that can never work, :class:`Transient` for one that may work when
    tried again, and :class:`EngineLost` once the engine is dead. Cancelling it aborts the request in the model.
    """

    model_id: str
    slots: int  # how many requests keep it busy: 2 x max_num_seqs for vLLM

    async def start(self) -> None:
        """Load the model and answer one warm-up request."""
        ...

    async def describe(self, frames: FrameSet, prompt: Prompt, request_id: str) -> Completion:
        """Return the model's answer for one window."""
        ...

    async def wait_dead(self) -> None:
        """Return (or raise :class:`EngineLost`) only when the engine has died."""
        ...

    async def close(self) -> None:
        """Stop the model and every process of it."""
        ...
