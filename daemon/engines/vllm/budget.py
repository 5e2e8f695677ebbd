"""The tokens of a batch and the requests at once: vLLM's own numbers for a server, widened to the windows to come.

The tokens of a batch bound what the vision encoder takes of one video too: a window with more of them is refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from connectors.errors import Poison
from daemon.config.engine_settings import VllmSettings
from daemon.engines.model.token_planner import ModelTokenPlanner
from daemon.engines.model.window_shapes import ExpectedWindows
from daemon.engines.vllm.args import checked_args
from daemon.prompts.prompt import Prompt

TRIAL = Prompt("Describe.", max_tokens=1)  # what a window is asked where only its frames matter
_BATCHED, _REQUESTS = "max_num_batched_tokens", "max_num_seqs"


@dataclass(frozen=True, slots=True)
class Budget:
    """The tokens of a batch, the arguments that make vLLM take them, and sentences about what was chosen."""

    batched_tokens: int
    choices: tuple[str, ...]
    arguments: dict[str, Any] = field(default_factory=dict)


def choose_budget(
    settings: VllmSettings, scheduler: Any, planner: ModelTokenPlanner, windows: ExpectedWindows
) -> Budget:
    """Return the budget for these windows. ``scheduler`` is vLLM's own configuration; what an operator wrote holds."""
    written, choices = checked_args(settings.args), []
    tokens, arguments = int(scheduler.max_num_batched_tokens), {}
    if settings.max_model_len == "auto":
        longest = f"up to {planner.max_model_len} tokens, the model's own context"
        choices.append(f"engine.max_model_len: auto, as much as memory holds, {longest}; the start says how many.")
    if written.get(_REQUESTS) is None:
        choices.append(f"engine.args.{_REQUESTS}: {scheduler.max_num_seqs}, vLLM's own for a server on this machine.")
    if written.get(_BATCHED) is None:
        why = "vLLM's own for a server on this machine"
        wanted, shape = max(_vision_tokens(planner, windows), default=(0, ""))
        if wanted > tokens:
            tokens, why = wanted, f"the vision tokens of a window of {shape}, which vLLM's own {tokens} do not hold"
            arguments[_BATCHED] = tokens
        choices.append(f"engine.args.{_BATCHED}: {tokens}, {why}.")
    return Budget(tokens, tuple(choices), arguments)


def _vision_tokens(planner: ModelTokenPlanner, windows: ExpectedWindows) -> Iterator[tuple[int, str]]:
    """Yield how many tokens the frames of each full window fill, as far as the context has room for them."""
    for shape in windows.shapes(planner.max_frame_size, planner.frame_size):
        try:
            planned = planner.plan(shape.num_frames, shape.height, shape.width, TRIAL)
        except Poison:  # the trial of the prompts says it, with the key
            continue
        yield min(planned.vision_tokens, planner.max_model_len or planned.vision_tokens), str(shape)
