"""Checkpoints of a training run by torch's distributed checkpoints: each process writes its share, any number reads it.

A checkpoint is a folder for its step. Tensors are torch's; all else is in ``state.json``, so nothing has to be
unpickled but torch's own list of the tensors, which is looked through first. That list is written last, when every
process is done: a folder without it is what an interrupted run left, and the one before it is still there.
"""

import json
import logging
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.distributed import checkpoint

from connectors.errors import ConfigurationError
from neva.checkpoints.distributed.stored import DamagedError
from neva.checkpoints.distributed.torch_metadata import read_metadata

log = logging.getLogger(__name__)

_WHOLE, _STATE = ".metadata", "state.json"


class TrainedWeights:
    """The trained weights of a module, for a checkpoint; the frozen ones are read from where they came from."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.named = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}

    def state_dict(self) -> dict[str, Any]:
        """Return the weights by name."""
        return {name: weight.detach() for name, weight in self.named.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take ``state``, which has been read into the weights themselves."""


class AdamState:
    """The state of AdamW over named weights, for a checkpoint: whoever holds a share of a weight holds that of both."""

    def __init__(self, optimiser: torch.optim.Optimizer, named: Mapping[str, Any]) -> None:
        self._optimiser, self._named = optimiser, named

    def state_dict(self) -> dict[str, Any]:
        """Return both moments and the count of each weight, zero before the first step, and the groups' numbers."""
        state: dict[str, Any] = {}
        for name, weight in self._named.items():
            held = self._optimiser.state[weight]
            if not held:
                held["step"] = torch.zeros(())
                held["exp_avg"], held["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
            state |= {f"{name}.{key}": tensor.detach() for key, tensor in held.items()}
        groups = self._optimiser.param_groups
        state["groups"] = [{key: value for key, value in group.items() if key != "params"} for group in groups]
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the groups' numbers; the tensors have been read into those of the optimiser."""
        for group, stored in zip(self._optimiser.param_groups, state["groups"], strict=True):
            group.update(stored)


def save_checkpoint(folder: Path, step: int, kept: Mapping[str, Any], learned_from: str) -> None:
    """Write ``step`` and the state of everything in ``kept`` beneath ``folder``; all processes call this.

    A run that ends meanwhile keeps its last checkpoint.
    """
    target = folder / f"step-{step:08d}"
    tensors, rest = _divided(kept)
    if _is_first():
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        (target / _STATE).write_text(json.dumps({"step": step, "learned_from": learned_from, "state": rest}))
    _wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # one process alone is told that it is alone
        checkpoint.save(tensors, checkpoint_id=target)
    _wait()
    if _is_first():
        for other in folder.iterdir():
            if other != target:
                shutil.rmtree(other)


def load_checkpoint(folder: Path, kept: Mapping[str, Any], learned_from: str) -> int:
    """Load the last checkpoint beneath ``folder`` into everything in ``kept`` and return the next step.

    It is 0 without a checkpoint of these settings. All processes call this; there may be more or fewer of them than
    have written it.
    """
    whole = sorted(path.parent for path in folder.glob(f"*/{_WHOLE}"))
    if not whole:
        return 0
    stored = json.loads((whole[-1] / _STATE).read_text())
    if stored["learned_from"] != learned_from:
        log.warning("%s was made with other settings: training starts anew.", whole[-1])
        return 0
    _check_list(whole[-1] / _WHOLE)
    tensors, _ = _divided(kept)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        checkpoint.load(tensors, checkpoint_id=whole[-1])
    for name, part in kept.items():
        part.load_state_dict(stored["state"][name])
    _wait()
    return int(stored["step"])


def _check_list(path: Path) -> None:
    """Refuse a list of tensors that names anything but what torch writes: torch's own reader would run it."""
    try:
        read_metadata(path.read_bytes())
    except DamagedError as error:
        raise ConfigurationError(f"{path} is no list of a checkpoint's tensors: {error}") from error


def _divided(kept: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, dict[str, Any]]]:
    """Return the tensors of the states of ``kept`` by one name each, and what else there is in them."""
    states = {name: part.state_dict() for name, part in kept.items()}
    tensors = {
        f"{name}.{key}": value
        for name, state in states.items()
        for key, value in state.items()
        if isinstance(value, torch.Tensor)
    }
    rest = {
        name: {key: value for key, value in state.items() if not isinstance(value, torch.Tensor)}
        for name, state in states.items()
    }
    return tensors, rest


def _is_first() -> bool:
    return not distributed.is_initialized() or distributed.get_rank() == 0


def _wait() -> None:
    if distributed.is_initialized():
        distributed.barrier()
