"""What a window is asked: the prompt of a request, before a model's own template and tokens."""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property


@dataclass(frozen=True)
class Prompt:
    """The question, how it is wrapped, and how the answer is generated.

    ``template`` is ``auto`` (the model's own chat template) or the name of one of NeVA's conversations. Sampling
    settings mean what :class:`daemon.config.GenerationSettings` says.
    """

    text: str
    template: str = "auto"
    system: str | None = None
    max_tokens: int = 256
    min_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None

    @cached_property
    def hash(self) -> str:
        """The first 16 hexadecimal digits of a SHA-256 over every field: what messages call ``prompt_hash``."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]
