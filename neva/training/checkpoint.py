"""Checkpoints of a training run: one file for each stage, replaced as a whole, valid for the same settings only."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger(__name__)


def save_checkpoint(path: Path, step: int, kept: Mapping[str, Any], learned_from: str) -> None:
    """Write ``step`` and the state of everything in ``kept``; a run that ends meanwhile keeps its last checkpoint."""
    part = path.with_suffix(".part")
    state = {name: whole.state_dict() for name, whole in kept.items()}
    torch.save({"step": step, "learned_from": learned_from, "state": state}, part)
    part.replace(path)


def load_checkpoint(path: Path, kept: Mapping[str, Any], learned_from: str) -> int:
    """Load the state of everything in ``kept`` and return the next step; 0 without a checkpoint of these settings."""
    if not path.exists():
        return 0
    stored = torch.load(path, map_location="cpu", weights_only=True)
    if stored.get("learned_from") != learned_from:
        log.warning("%s was made with other settings: training starts anew.", path)
        return 0
    for name, whole in kept.items():
        whole.load_state_dict(stored["state"][name])
    return int(stored["step"])
