"""Wider layers that do what narrow ones did: the old weights are first, and old outputs read nothing of new inputs."""

from typing import Any

import torch


def place(target: torch.Tensor, source: torch.Tensor) -> None:
    """Put ``source`` at the beginning of ``target``; old outputs read nothing of new inputs."""
    target[: len(source)] = 0
    target[tuple(slice(n) for n in source.shape)] = source


def narrow_norm(target: Any, source: Any, ratio: float) -> None:
    """Let a norm over more features do to the old ones what it did."""
    width = len(source.weight)
    target.weight[:] = ratio
    target.weight[:width] = source.weight * ratio
    if getattr(source, "bias", None) is not None:
        target.bias[:] = 0
        target.bias[:width] = source.bias


def widen(target: Any, source: Any, reading: tuple[str, ...], writing: str) -> None:
    """Widen a block whose ``reading`` layers read the features and whose ``writing`` layer writes them."""
    for name in reading:
        place_linear(getattr(target, name), getattr(source, name))
    wide, narrow = getattr(target, writing), getattr(source, writing)
    wide.weight.zero_()
    place_linear(wide, narrow)


def place_linear(target: Any, source: Any) -> None:
    """Put the weights and biases of ``source`` at the beginning of those of ``target``."""
    place(target.weight, source.weight)
    if source.bias is not None:
        target.bias.zero_()
        place(target.bias, source.bias)
