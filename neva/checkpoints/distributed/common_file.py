"""The small files of a distributed checkpoint: which layout it has, and what Megatron could not split."""

import json
from collections.abc import Mapping
from typing import Any

from neva.checkpoints.archive import NemoArchive
from neva.checkpoints.distributed.stored import refused

COMMON, BACKEND = "common.pt", "metadata.json"
_MAX_BYTES = 2**32


def check_backend(archive: NemoArchive, folder: str) -> None:
    """Refuse a checkpoint that says that it has a layout other than torch_dist and zarr."""
    member = f"{folder}/{BACKEND}"
    if member not in archive.names:
        return
    try:
        backend = json.loads(archive.read(member))["sharded_backend"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise refused(archive.path, member, "it names no sharded_backend") from error
    if backend not in ("torch_dist", "zarr"):
        reason = f"the layout {str(backend)[:40]!r} is not read; save the model with dist_ckpt_format: torch_dist"
        raise refused(archive.path, member, reason)


def read_common(archive: NemoArchive, folder: str) -> dict[str, Any]:
    """Return the plain tensors in ``common.pt``, which is loaded with ``weights_only``; none where there is no file.

    Raises:
        ConfigurationError: the file holds anything that torch does not load so.
    """
    import torch

    member = f"{folder}/{COMMON}"
    if member not in archive.names:
        return {}
    if archive.size_bytes(member) > _MAX_BYTES:
        raise refused(archive.path, member, "it is larger than what Megatron puts there")
    try:
        with archive.open(member) as file:
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a file that is no state of tensors may raise anything
        raise refused(archive.path, member, first_line(error)) from error
    if not isinstance(loaded, Mapping):
        raise refused(archive.path, member, "it holds no state")
    return {str(name): value for name, value in loaded.items() if type(value) is torch.Tensor}


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message without its full stop, or its class where it has none."""
    lines = str(error).splitlines()
    return lines[0].rstrip(".") if lines and lines[0] else type(error).__name__
