"""Bytes that each device of a run holds of the model, its gradients and its optimiser's state, measured in the run."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

DEVICES_FILE = "devices.json"  # in a run's folder


@dataclass(frozen=True, slots=True)
class HeldBytes:
    """The bytes of one device."""

    weights: int
    gradients: int
    optimiser: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.gradients + self.optimiser


def held_bytes(task: torch.nn.Module, optimiser: torch.optim.Optimizer) -> HeldBytes:
    """Return what this process holds, between a backward pass and the next one."""
    weights = list(task.parameters())
    state = [tensor for held in optimiser.state.values() for tensor in held.values()]
    return HeldBytes(
        sum(_bytes(weight) for weight in weights),
        sum(_bytes(weight.grad) for weight in weights if weight.grad is not None),
        sum(_bytes(tensor) for tensor in state if isinstance(tensor, torch.Tensor)),
    )


def write_held_bytes(path: Path, held: HeldBytes, accelerator: Any) -> None:
    """Write what each process holds into one file; all of them call this."""
    mine = torch.tensor([[held.weights, held.gradients, held.optimiser]], device=accelerator.device)
    rows = accelerator.gather(mine).tolist()
    if accelerator.is_main_process:
        devices = [asdict(HeldBytes(*row)) for row in rows]
        path.write_text(json.dumps({"devices": devices}, indent=2) + "\n", encoding="utf-8")


def _bytes(tensor: Any) -> int:
    """Return the bytes of a tensor that lie on this device."""
    from torch.distributed.tensor import DTensor

    local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return int(local.nbytes)
