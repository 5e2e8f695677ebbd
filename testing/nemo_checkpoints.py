"""Checkpoints as NeMo writes them, made from a Llama or a Nemotron under Hugging Face's names.

Nothing here uses the code that it tests: layouts and names are taken from NeMo itself.
"""

import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from testing.tiny_models import IMAGE_TEMPLATE, byte_tokenizer

HIDDEN, HEADS, GROUPS, HEAD_DIM, INNER, LAYERS, TOWER = 128, 4, 2, 32, 96, 4, 64  # heads that vLLM takes on the CPU
MARKS = [f"<extra_id_{n}>" for n in range(8)]
State = dict[str, torch.Tensor]
ADAPTER = "model.embedding.word_embeddings.adapter_layer.mm_projector_adapter.mm_projector"


def make_tokenizer(folder: Path) -> Any:
    tokenizer = byte_tokenizer(MARKS, IMAGE_TEMPLATE)
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_tower(folder: Path) -> State:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(3)
    config = CLIPVisionConfig(
        hidden_size=TOWER,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    model = CLIPVisionModel(config)
    model.save_pretrained(folder)
    return {
        f"vision_tower.vision_model.{name.removeprefix('vision_model.')}": tensor
        for name, tensor in model.state_dict().items()
        if "position_ids" not in name
    }


def make_language(vocab: int, *, nemotron: bool = False) -> State:
    """Return a language model's weights under Hugging Face's names, without the part before ``model.``."""
    torch.manual_seed(5)
    rand = lambda *shape: torch.randn(*shape, dtype=torch.bfloat16)  # noqa: E731
    state = {"model.embed_tokens.weight": rand(vocab, HIDDEN), "lm_head.weight": rand(vocab, HIDDEN)}
    norms = ["model.norm"]
    for i in range(LAYERS):
        layer = f"model.layers.{i}"
        state |= {
            f"{layer}.self_attn.q_proj.weight": rand(HEADS * HEAD_DIM, HIDDEN),
            f"{layer}.self_attn.k_proj.weight": rand(GROUPS * HEAD_DIM, HIDDEN),
            f"{layer}.self_attn.v_proj.weight": rand(GROUPS * HEAD_DIM, HIDDEN),
            f"{layer}.self_attn.o_proj.weight": rand(HIDDEN, HEADS * HEAD_DIM),
            f"{layer}.mlp.up_proj.weight": rand(INNER, HIDDEN),
            f"{layer}.mlp.down_proj.weight": rand(HIDDEN, INNER),
        }
        if not nemotron:
            state[f"{layer}.mlp.gate_proj.weight"] = rand(INNER, HIDDEN)
        norms += [f"{layer}.input_layernorm", f"{layer}.post_attention_layernorm"]
    for norm in norms:
        state[f"{norm}.weight"] = rand(HIDDEN)
        if nemotron:
            state[f"{norm}.bias"] = rand(HIDDEN)
    return state


def make_projector(kind: str = "mlp2x_gelu", hidden: int = HIDDEN) -> State:
    torch.manual_seed(9)
    rand = lambda *shape: torch.randn(*shape, dtype=torch.bfloat16)  # noqa: E731
    if kind == "linear":
        return {f"{ADAPTER}.weight": rand(hidden, TOWER), f"{ADAPTER}.bias": rand(hidden)}
    return {
        f"{ADAPTER}.0.weight": rand(hidden, TOWER),
        f"{ADAPTER}.0.bias": rand(hidden),
        f"{ADAPTER}.2.weight": rand(hidden, hidden),
        f"{ADAPTER}.2.bias": rand(hidden),
    }


def interleave(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return NeMo's rows: for each group its queries, its key, its value."""
    each = HEADS // GROUPS * HEAD_DIM
    rows = []
    for g in range(GROUPS):
        rows += [
            q[g * each : (g + 1) * each],
            k[g * HEAD_DIM : (g + 1) * HEAD_DIM],
            v[g * HEAD_DIM : (g + 1) * HEAD_DIM],
        ]
    return torch.cat(rows)


def padded(tensor: torch.Tensor, multiple: int = 128) -> torch.Tensor:
    more = -len(tensor) % multiple
    return torch.cat([tensor, torch.full((more, tensor.shape[1]), 7.0, dtype=tensor.dtype)])


def to_mcore(hf: State) -> State:
    state = {
        "model.embedding.word_embeddings.weight": padded(hf["model.embed_tokens.weight"]),
        "model.output_layer.weight": padded(hf["lm_head.weight"]),
    }
    for rest in ("weight", "bias"):
        if f"model.norm.{rest}" in hf:
            state[f"model.decoder.final_layernorm.{rest}"] = hf[f"model.norm.{rest}"]
    for i in range(LAYERS):
        old, new = f"model.layers.{i}", f"model.decoder.layers.{i}"
        qkv = [hf[f"{old}.self_attn.{name}_proj.weight"] for name in "qkv"]
        gate = [hf[f"{old}.mlp.gate_proj.weight"]] if f"{old}.mlp.gate_proj.weight" in hf else []
        state |= {
            f"{new}.self_attention.linear_qkv.weight": interleave(*qkv),
            f"{new}.self_attention.linear_proj.weight": hf[f"{old}.self_attn.o_proj.weight"],
            f"{new}.mlp.linear_fc1.weight": torch.cat([*gate, hf[f"{old}.mlp.up_proj.weight"]]),
            f"{new}.mlp.linear_fc2.weight": hf[f"{old}.mlp.down_proj.weight"],
        }
        for rest in ("weight", "bias"):
            if f"{old}.input_layernorm.{rest}" in hf:
                state[f"{new}.self_attention.linear_qkv.layer_norm_{rest}"] = hf[f"{old}.input_layernorm.{rest}"]
                state[f"{new}.mlp.linear_fc1.layer_norm_{rest}"] = hf[f"{old}.post_attention_layernorm.{rest}"]
    return state


_LEGACY = {
    "self_attention.linear_qkv.layer_norm_": "input_layernorm.",
    "mlp.linear_fc1.layer_norm_": "post_attention_layernorm.",
    "self_attention.linear_qkv": "self_attention.query_key_value",
    "self_attention.linear_proj": "self_attention.dense",
    "mlp.linear_fc1": "mlp.dense_h_to_4h",
    "mlp.linear_fc2": "mlp.dense_4h_to_h",
    "model.decoder.": "model.language_model.encoder.",
    "model.embedding.": "model.language_model.embedding.",
    "model.output_layer.": "model.language_model.output_layer.",
}


def to_legacy(mcore: State) -> State:
    state = {}
    for name, tensor in mcore.items():
        for new, old in _LEGACY.items():
            name = name.replace(new, old)
        state[name] = tensor
    return state | {"model.language_model.rotary_pos_emb.inv_freq": torch.ones(8)}


def split_tensor(state: State, ranks: int, *, gated: bool) -> list[State]:
    parts: list[State] = [{} for _ in range(ranks)]
    for name, tensor in state.items():
        columns = any(mark in name for mark in ("linear_proj", ".dense.", "linear_fc2", "4h_to_h"))
        fc1 = any(name.endswith(mark) for mark in ("linear_fc1.weight", "dense_h_to_4h.weight"))
        rows = fc1 or any(
            name.endswith(mark)
            for mark in ("word_embeddings.weight", "output_layer.weight", "linear_qkv.weight", "query_key_value.weight")
        )
        for rank in range(ranks):
            if fc1 and gated:
                gate, up = tensor.chunk(2)
                piece = torch.cat([gate.chunk(ranks)[rank], up.chunk(ranks)[rank]])
            elif rows or columns:
                piece = tensor.chunk(ranks, dim=1 if columns else 0)[rank]
            else:
                piece = tensor
            parts[rank][name] = piece.clone()
    return parts


def split_pipeline(state: State, ranks: int) -> list[State]:
    each = LAYERS // ranks
    parts: list[State] = [{} for _ in range(ranks)]
    for name, tensor in state.items():
        if ".layers." in name:
            before, _, after = name.partition(".layers.")
            number, _, rest = after.partition(".")
            parts[int(number) // each][f"{before}.layers.{int(number) % each}.{rest}"] = tensor
        else:
            parts[-1 if "output_layer" in name or "final_layernorm" in name else 0][name] = tensor
    return parts


def layout(state: State, name: str, *, gated: bool = True) -> dict[str, State]:
    """Return the weight files of a layout: ``single``, ``mp_rank`` (two tensor ranks) or ``tp_pp`` (two of each)."""
    if name == "single":
        return {"model_weights.ckpt": state}
    if name == "mp_rank":
        parts = split_tensor(state, 2, gated=gated)
        return {f"mp_rank_{rank:02d}/model_weights.ckpt": part for rank, part in enumerate(parts)}
    return {
        f"tp_rank_{tp:02d}_pp_rank_{pp:03d}/model_weights.ckpt": part
        for pp, stage in enumerate(split_pipeline(state, 2))
        for tp, part in enumerate(split_tensor(stage, 2, gated=gated))
    }


def model_config(tower: Path, tokenizer: Path, /, **changes: Any) -> dict[str, Any]:
    """Return a ``model_config.yaml`` as a Video NeVA on Llama has it."""
    return {
        "mcore_gpt": True,
        "encoder_seq_length": 512,
        "num_layers": LAYERS,
        "hidden_size": HIDDEN,
        "ffn_hidden_size": INNER,
        "num_attention_heads": HEADS,
        "num_query_groups": GROUPS,
        "kv_channels": HEAD_DIM,
        "normalization": "rmsnorm",
        "layernorm_epsilon": 1e-6,
        "activation": "fast-swiglu",
        "bias": False,
        "rotary_percentage": 1.0,
        "rotary_base": 20000,
        "share_embeddings_and_output_weights": False,
        "mm_cfg": {
            "llm": {"from_pretrained": None, "freeze": False, "model_type": "v1"},
            "vision_encoder": {
                "from_pretrained": str(tower),
                "from_hf": True,
                "patch_dim": 14,
                "crop_size": [28, 28],
                "hidden_size": TOWER,
                "vision_select_layer": -2,
                "class_token_length": 1,
                "freeze": True,
            },
            "mm_mlp_adapter_type": "mlp2x_gelu",
            "use_im_start_end": False,
        },
        "data": {
            "media_type": "video",
            "splice_single_frame": None,
            "num_frames": 4,
            "image_token_len": 4,
            "sep_token_between_frames": False,
            "conv_template": "v1",
            "image_aspect_ratio": "square",
            "num_workers": 8,
        },
        "tokenizer": {"library": "huggingface", "type": str(tokenizer), "model": None},
        **changes,
    }


@dataclass
class Checkpoint:
    """The members of a ``.nemo`` before they are written."""

    config: dict[str, Any]
    weights: dict[str, State]
    others: dict[str, bytes] = field(default_factory=dict)

    def members(self) -> dict[str, bytes]:
        found = {"./model_config.yaml": yaml.safe_dump(self.config).encode(), **self.others}
        for name, state in self.weights.items():
            buffer = io.BytesIO()
            torch.save(state, buffer)
            found[f"./{name}"] = buffer.getvalue()
        return found

    def as_tar(self, path: Path, mode: str = "w") -> Path:
        with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
            for name, content in self.members().items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return path

    def as_folder(self, path: Path) -> Path:
        for name, content in self.members().items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
        return path


CONTAINERS: dict[str, Callable[[Checkpoint, Path], Path]] = {
    "tar": lambda checkpoint, parent: checkpoint.as_tar(parent / "neva.nemo"),
    "gzip": lambda checkpoint, parent: checkpoint.as_tar(parent / "neva.nemo", "w:gz"),
    "folder": lambda checkpoint, parent: checkpoint.as_folder(parent / "extracted"),
}
