"""The comparison of two rendered windows, field by field and byte by byte."""

from typing import Any


def differences(one: Any, other: Any, place: str = "input") -> list[str]:
    """Return where two rendered windows differ, leaving out when they arrived; nothing where they are the same."""
    import torch

    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        is_same = one.dtype == other.dtype and one.shape == other.shape
        is_same = is_same and bytes(one.contiguous().view(torch.uint8).numpy()) == bytes(
            other.contiguous().view(torch.uint8).numpy()
        )
        return [] if is_same else [place]
    if hasattr(one, "keys") and hasattr(other, "keys"):
        names = set(one) ^ set(other) - {"arrival_time"}
        shared = set(one) & set(other) - {"arrival_time"}
        inner = [found for name in shared for found in differences(one[name], other[name], f"{place}.{name}")]
        return [f"{place}.{name}" for name in names - {"arrival_time"}] + inner
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return [place]
        pairs = zip(one, other, strict=True)
        return [found for at, pair in enumerate(pairs) for found in differences(*pair, f"{place}[{at}]")]
    if hasattr(one, "__dataclass_fields__") and type(one) is type(other):
        names = set(one.__dataclass_fields__)
        return [
            found
            for name in names
            for found in differences(getattr(one, name), getattr(other, name), f"{place}.{name}")
        ]
    return [] if type(one) is type(other) and one == other else [place]
