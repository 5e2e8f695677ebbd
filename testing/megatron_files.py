"""The checkpoints that ``tests/neva/write_megatron_checkpoints.py`` wrote, and what stands beside them on a disk."""

import io
import tarfile
from pathlib import Path

from testing.repository import ROOT

DATA = ROOT / "tests" / "data" / "nemo"


def members(name: str) -> dict[str, bytes]:
    """Return the files in a checkpoint by their names, ``./`` before each."""
    with tarfile.open(DATA / f"{name}.nemo") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive if member.isreg()}  # type: ignore[union-attr]


def packed(files: dict[str, bytes], path: Path) -> Path:
    """Write a ``.nemo`` of these files."""
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def unpacked(name: str, folder: Path) -> Path:
    """Extract a checkpoint into ``folder``."""
    for file, content in members(name).items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    return folder


def written_tower(folder: Path) -> Path:
    """Write the CLIP tower that the checkpoints' projectors are for."""
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(3)
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    CLIPVisionModel(config).save_pretrained(folder)
    return folder
