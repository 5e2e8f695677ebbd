"""A distributed checkpoint: which tensors it holds, and each of them in memory, one at a time.

Megatron saves the tensors of a whole model, whatever its tensor and pipeline ranks were, in one of two layouts:
``torch_dist``, the checkpoints of torch itself, and ``zarr``. Nothing is extracted: members are read by seeking.
"""

from connectors.errors import ConfigurationError
from neva.checkpoints.archive import NemoArchive
from neva.checkpoints.distributed.common_file import check_backend
from neva.checkpoints.distributed.stored import DistributedCheckpoint
from neva.checkpoints.distributed.torch_dist import METADATA, TorchDist
from neva.checkpoints.distributed.zarr_layout import ARRAY, ZarrLayout

FOLDER = "model_weights"  # of a .nemo; a NeMo 2 checkpoint has ``weights``


def is_distributed(archive: NemoArchive, folder: str = FOLDER) -> bool:
    """Return whether a checkpoint keeps its weights in ``folder``, as Megatron's distributed ones do."""
    return any(name.startswith(f"{folder}/") for name in archive.names)


def open_distributed(archive: NemoArchive, folder: str = FOLDER, *, common: bool = True) -> DistributedCheckpoint:
    """Return the distributed checkpoint in ``folder`` of an archive.

    Plain tensors in its ``common.pt`` belong to it; without ``common`` that file is not opened.

    Raises:
        ConfigurationError: the folder holds none, or one that is refused; the message names the member.
    """
    if not archive.seekable:
        raise ConfigurationError(
            f"{archive.path} is compressed, and its distributed checkpoint is read by seeking: decompress it first, "
            "such as with gunzip -c OLD.nemo > NEW.nemo."
        )
    check_backend(archive, folder)
    if f"{folder}/{METADATA}" in archive.names:
        return TorchDist(archive, folder, common=common)
    if any(name.startswith(f"{folder}/") and name.endswith(f"/{ARRAY}") for name in archive.names):
        return ZarrLayout(archive, folder, common=common)
    raise ConfigurationError(
        f"{archive.path} holds no distributed checkpoint: {folder} has neither a {METADATA} nor a {ARRAY}."
    )
