"""Tiny models of random weights, made offline: the architectures that captiond's adapter must serve, without weights.

Every model has a tokenizer of single bytes, its family's own processor and a chat template, and heads of 32 channels,
the smallest that vLLM's attention on the CPU takes. Text and vision towers have two heads, so two devices can share
them. A module holds a group of families with its table of builders; :func:`build` writes a model once a folder.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from testing.tiny_models import (
    glm,
    google,
    internvl,
    keye,
    llava,
    minicpm,
    phi,
    qwen,
    remote,
    text,
    tiles,
    video_llama,
)
from testing.tiny_models.parts import IMAGE_TEMPLATE, QWEN_TEMPLATE, byte_tokenizer

__all__ = ["BUILDERS", "IMAGE_TEMPLATE", "QWEN_TEMPLATE", "build", "byte_tokenizer", "edit_config"]

BUILDERS: dict[str, Callable[[Path], Path]] = {
    **glm.BUILDERS,
    **google.BUILDERS,
    **internvl.BUILDERS,
    **keye.BUILDERS,
    **llava.BUILDERS,
    **minicpm.BUILDERS,
    **phi.BUILDERS,
    **qwen.BUILDERS,
    **remote.BUILDERS,
    **text.BUILDERS,
    **tiles.BUILDERS,
    **video_llama.BUILDERS,
}


def build(name: str, parent: Path) -> Path:
    """Return the folder of the tiny model ``name`` under ``parent``, written at the first call."""
    folder = parent / name
    if not (folder / "config.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        BUILDERS[name](folder)
    return folder


def edit_config(folder: Path, **changes: Any) -> None:
    """Change keys of a model's ``config.json``, for tests of models that do not fit."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
