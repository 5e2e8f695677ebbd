"""Checkpoints written by the real megatron-core, for the tests of the import.

    python -m venv megatron
    megatron/bin/pip install torch numpy einops pyyaml megatron-core==0.16.1
    megatron/bin/python -m tests.neva.write_megatron_checkpoints tests/data/nemo

The project's own environment never has Megatron, so the small files that this writes are committed. megatron-core
0.16.1 writes the torch_dist ones. The zarr ones, which later releases no longer have, are of 0.8.0, the release of NeMo
v2.0.0's time, with ``zarr==2.18.7`` and ``tensorstore`` beside it. A Video NeVA is a GPT model with a projector below
its word embeddings, saved as NeMo's ``sharded_state_dict`` names it: Megatron's own entries, and the projector whole on
every rank. ``logits.pt`` holds what Megatron computes for some tokens from the weights in 32 bits.
"""

import argparse
import os
import socket
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing
import yaml

from tests.neva.megatron_model import (
    GROUPS,
    HEAD_DIM,
    HEADS,
    HIDDEN,
    INNER,
    LAYERS,
    TOWER,
    build_model,
    compute,
    fill,
    sharded_state,
)

# name of the file: tensor ranks, pipeline ranks, format, keywords of the sharded state, parts of NeVA
NEW: dict[str, tuple[int, int, str, dict[str, Any], str]] = {
    "stacked-tp1": (1, 1, "torch_dist", {}, "llm projector"),
    "stacked-tp2": (2, 1, "torch_dist", {}, "llm projector"),
    "stacked-pp2": (1, 2, "torch_dist", {}, "llm projector"),
    "single-layers-tp2": (2, 1, "torch_dist", {"singleton_local_shards": True}, "llm projector"),
    "with-tower-tp1": (1, 1, "torch_dist", {}, "projector tower"),
    "projector-tp2": (2, 1, "torch_dist", {}, "projector"),
    "base-tp2": (2, 1, "torch_dist", {}, "llm"),
}
OLD: dict[str, tuple[int, int, str, dict[str, Any], str]] = {
    "old-zarr-tp1": (1, 1, "zarr", {}, "llm projector"),
    "old-zarr-tp2": (2, 1, "zarr", {}, "llm projector"),
}


def model_config(parts: str, zarr: bool) -> dict[str, Any]:
    """Return ``model_config.yaml`` with the keys that NeMo v2.0.0's video_neva_config.yaml has and the import reads."""
    config: dict[str, Any] = {
        "precision": "bf16",
        "micro_batch_size": 1,
        "global_batch_size": 2,
        "tensor_model_parallel_size": 1,
        "pipeline_model_parallel_size": 1,
        "virtual_pipeline_model_parallel_size": None,
        "restore_from_path": None,
        "mcore_gpt": True,
        "dist_ckpt_format": "zarr" if zarr else "torch_dist",
        "encoder_seq_length": 512,
        "max_position_embeddings": 512,
        "num_layers": LAYERS,
        "hidden_size": HIDDEN,
        "ffn_hidden_size": INNER,
        "num_attention_heads": HEADS,
        "num_query_groups": GROUPS,
        "kv_channels": HEAD_DIM,
        "make_vocab_size_divisible_by": 128,
        "normalization": "rmsnorm",
        "layernorm_epsilon": 1e-6,
        "activation": "fast-swiglu",
        "bias": False,
        "transformer_block_type": "pre_ln",
        "position_embedding_type": "rope",
        "rotary_percentage": 1.0,
        "rotary_base": 20000,
        "share_embeddings_and_output_weights": False,
        "megatron_amp_O2": True,
        "tokenizer": {"library": "sentencepiece", "type": None, "model": None, "vocab_file": None, "merge_file": None},
    }
    if parts == "llm":
        return config
    return config | {
        "mm_cfg": {
            "llm": {"from_pretrained": None, "freeze": "llm" not in parts, "model_type": "v1"},
            "vision_encoder": {
                "from_pretrained": "openai/clip-vit-large-patch14-336",
                "from_hf": True,
                "patch_dim": 14,
                "crop_size": [28, 28],
                "hidden_size": TOWER,
                "vision_select_layer": -2,
                "class_token_length": 1,
                "freeze": "tower" not in parts,
            },
            "pretrain_mm_mlp_adapter": None,
            "mm_mlp_adapter_type": "mlp2x_gelu",
            "use_im_start_end": False,
        },
        "data": {
            "packed_sequence": False,
            "num_workers": 8,
            "dataloader_type": "cyclic",
            "lazy_preprocess": True,
            "is_multimodal": True,
            "media_type": "video",
            "splice_single_frame": None,
            "num_frames": 4,
            "sep_token_between_frames": False,
            "conv_template": "v1",
            "image_aspect_ratio": "square",
        },
    }


def write_rank(rank: int, names: list[str], port: int, parent: str) -> None:
    """Save one rank's part of some checkpoints; the first rank writes what a model computes."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.cuda.synchronize = lambda *_: None  # type: ignore[assignment] - Megatron asks for a GPU's without a GPU
    torch.cuda.current_device = lambda: "cpu"  # type: ignore[assignment, return-value]
    tensor, pipeline, *_ = {**NEW, **OLD}[names[0]]
    torch.distributed.init_process_group("gloo", rank=rank, world_size=tensor * pipeline)
    for name in names:
        save_rank(rank, name, Path(parent) / name)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def save_rank(rank: int, name: str, folder: Path) -> None:
    from megatron.core import dist_checkpointing, parallel_state

    tensor, pipeline, kind, keywords, parts = {**NEW, **OLD}[name]
    parallel_state.initialize_model_parallel(tensor, pipeline)
    at = parallel_state.get_pipeline_model_parallel_rank()
    model = build_model((at, pipeline)).eval()
    fill(model, (parallel_state.get_tensor_model_parallel_rank(), tensor), at * LAYERS // pipeline)
    if rank == 0:
        (folder / "model_weights").mkdir(parents=True)
    torch.distributed.barrier()
    state = sharded_state(model, parts, keywords)
    dist_checkpointing.save(state, str(folder / "model_weights"), sharded_strategy=(kind, 1))
    if pipeline == 1 and "llm" in parts:
        logits = compute(model)
        if rank == 0:
            torch.save(logits, folder / "logits.pt")
    torch.distributed.barrier()
    parallel_state.destroy_model_parallel()


def write(names: list[str], out: Path) -> list[torch.Tensor]:
    """Write the ``.nemo`` files of one number of ranks, and return what their models compute.

    NeMo packs them as uncompressed tars whose members begin with ``./``.
    """
    tensor, pipeline, *_ = {**NEW, **OLD}[names[0]]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as parent:
        torch.multiprocessing.spawn(write_rank, (names, port, parent), nprocs=tensor * pipeline)
        return [logits for name in names if (logits := pack(name, Path(parent) / name, out)) is not None]


def pack(name: str, folder: Path, out: Path) -> torch.Tensor | None:
    _, _, kind, _, parts = {**NEW, **OLD}[name]
    logits = folder / "logits.pt"
    computed = torch.load(logits, weights_only=True) if logits.exists() else None
    logits.unlink(missing_ok=True)
    (folder / "model_config.yaml").write_text(yaml.safe_dump(model_config(parts, kind == "zarr")))
    with tarfile.open(out / f"{name}.nemo", mode="w") as archive:
        archive.add(folder, arcname=".", filter=_without_owner)
    return computed


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def main() -> None:
    import megatron.core

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    which = OLD if megatron.core.__version__.startswith("0.8.") else NEW
    names = arguments.names or list(which)
    found: list[torch.Tensor] = []
    for ranks in (1, 2):
        if same := [name for name in names if which[name][0] * which[name][1] == ranks]:
            found += write(same, arguments.out)
    for logits in found:
        assert torch.allclose(logits, found[0], atol=1e-5), "the ranks compute different numbers"
    if found:
        torch.save(found[0], arguments.out / "logits.pt")


if __name__ == "__main__":
    main()
