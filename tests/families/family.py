"""One family of models: how its tiny model is built, and what is expected of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemon.prompts.prompt import Modality, Prompt
from daemon.windows import FrameSet
from tests.families.reference import transformers_answers

# the token ids of the greedy answers to a prompt about each window, by another implementation of the model
Reference = Callable[[Path, Sequence[FrameSet], Prompt], list[tuple[int, ...]]]


@dataclass(frozen=True)
class Family:
    """A row of the table.

    Attributes:
        name: What people call the models.
        model: The name of its builder in :data:`testing.tiny_models.BUILDERS`.
        modality: The form in which its windows go: one video, or images.
        in_ci: Whether CI starts it: as a part of `make test`, or by `make families-ci`.
        reference: Says the greedy answers that the engine's are compared with; None where transformers has no class.
        no_reference: Why there is none.
        cpu_refuses: A regular expression of what vLLM's build for the CPU says where it can't run the class.
        load_refuses: A regular expression of captiond's refusal, where it can't serve the models.
        differs: In what vLLM's answers differ from the reference's, where they do: the tests see that they still do.
        batch_fault: What vLLM does wrong with videos of different counts of frames at once, where it ends its engine.
        started_by: The test module that starts it, where that is not the module of all families.
        max_frames: The most frames of a window that the engine is asked about.
        dtype: The precision it is loaded in; answers are compared in float32.
        args: ``engine.args`` that the tiny model needs.
    """

    name: str
    model: str
    modality: Modality
    in_ci: bool = False
    reference: Reference | None = transformers_answers
    no_reference: str = ""
    cpu_refuses: str = ""
    load_refuses: str = ""
    differs: str = ""
    batch_fault: str = ""
    started_by: str = ""
    max_frames: int = 8
    max_model_len: int = 1024
    dtype: str = "float32"
    args: Mapping[str, Any] = field(default_factory=dict)
