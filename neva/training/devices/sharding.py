"""Sharding of a task over all processes by FSDP2: parameters, and with them gradients and the optimiser's state.

The first process holds the weights, the others begin without any. Unit by unit the weights are broadcast, and each
process keeps its share of the unit, so no process but the first ever holds more than a share and one whole unit. A unit
is a layer of the language model or of the tower, the projector, and what is left over. Its weights are gathered when it
is computed, forwards and again backwards, and dropped after.
"""

import ctypes
from typing import Any

import torch
from torch import distributed, nn

# glibc's key for the size from which on memory comes from the system and goes back to it (M_MMAP_THRESHOLD in malloc.h)
_MMAP_THRESHOLD = -3
_GOES_BACK_BYTES = 2**20


def shard(task: nn.Module, accelerator: Any, *, bf16: bool) -> None:
    """Share the parameters of ``task`` among all processes, in place; all of them call this.

    With ``bf16`` weights are gathered and computed with in bfloat16, while each share keeps its type, and gradients are
    reduced in float32. An optimiser is made afterwards, over the shares.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    if accelerator.device.type == "cpu":
        _give_freed_memory_back()
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    policy = MixedPrecisionPolicy(torch.bfloat16 if bf16 else None, torch.float32 if bf16 else None)
    for unit in reversed(units(task)):  # what lies inside another unit comes before it
        share_weights(unit, accelerator.device)
        fully_shard(unit, mesh=mesh, mp_policy=policy)
    share_weights(task, accelerator.device)
    fully_shard(task, mesh=mesh, mp_policy=policy)


def _give_freed_memory_back() -> None:
    """Have glibc return what is freed to the system at once, from a mebibyte on.

    By itself it raises that size with each large tensor that is freed, up to 32 MiB: gathered layers would leave holes
    that stay with the process, and a share would take as much memory as the whole.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _GOES_BACK_BYTES)


def units(task: nn.Module) -> list[nn.Module]:
    """Return the modules whose weights are gathered together: layers of the language model and tower, the projector."""
    from transformers.modeling_layers import GradientCheckpointingLayer
    from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

    return [
        module for module in task.modules() if isinstance(module, GradientCheckpointingLayer | LlavaMultiModalProjector)
    ]


def share_weights(module: nn.Module, device: torch.device) -> None:
    """Give all processes the first one's weights and buffers of ``module``, on ``device``; all of them call this.

    What is sharded already stays as it is, and two names for one weight remain so.
    """
    from torch.distributed.tensor import DTensor

    shared: dict[Any, Any] = {}  # holds the old weights too, so none of them gives its identity to another

    def common(tensor: torch.Tensor) -> torch.Tensor:
        mine = distributed.get_rank() == 0
        whole = tensor.detach().to(device).contiguous() if mine else torch.empty_like(tensor, device=device)
        distributed.broadcast(whole.view(-1).view(torch.uint8) if whole.numel() else whole, src=0)
        return whole

    for owner in module.modules():
        for name, weight in owner._parameters.items():
            if weight is None or isinstance(weight, DTensor):
                continue
            if weight not in shared:
                shared[weight] = nn.Parameter(common(weight), requires_grad=weight.requires_grad)
            owner._parameters[name] = shared[weight]
        for name, buffer in owner._buffers.items():
            if buffer is not None:
                owner._buffers[name] = common(buffer)
