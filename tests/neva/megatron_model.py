"""A tiny Video NeVA by the real megatron-core: a GPT model with a projector below its word embeddings, and its numbers.

Only functions import Megatron, which the project's own environment never has: the tests of the import read the rest.
"""

import contextlib
from typing import Any

import torch

VOCAB, PADDED = 267, 384  # the tests' tokenizer has 267 tokens
HIDDEN, HEADS, GROUPS, HEAD_DIM, INNER, LAYERS, TOWER = 32, 4, 2, 32, 48, 2, 32
ADAPTER = "adapter_layer.mm_projector_adapter.mm_projector"
TOKENS = [1, 5, 9, 101, 32, 33, 250, 7, 7, 60, 12, 99]


class RMSNorm(torch.nn.Module):
    """The norm of a Llama; megatron-core's own one of 0.8.0 needs apex."""

    def __init__(self, config: Any, hidden_size: int, eps: float = 1e-6, **_: Any) -> None:
        super().__init__()
        self.weight, self.eps = torch.nn.Parameter(torch.ones(hidden_size, dtype=config.params_dtype)), eps

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        scale = torch.rsqrt(seen.float().pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * (seen.float() * scale).to(seen.dtype)


def build_model(pipeline: tuple[int, int]) -> Any:
    from megatron.core import ModelParallelConfig  # noqa: F401 - the import that fails first where it is missing
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.transformer import TransformerConfig
    from megatron.core.transformer.transformer_block import TransformerBlockSubmodules

    config = TransformerConfig(
        num_layers=LAYERS,
        hidden_size=HIDDEN,
        ffn_hidden_size=INNER,
        num_attention_heads=HEADS,
        num_query_groups=GROUPS,
        kv_channels=HEAD_DIM,
        gated_linear_unit=True,
        activation_func=torch.nn.functional.silu,
        add_bias_linear=False,
        normalization="RMSNorm" if hasattr(torch.nn, "RMSNorm") else "LayerNorm",
        layernorm_epsilon=1e-6,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        params_dtype=torch.bfloat16,
        pipeline_dtype=torch.bfloat16,
        bf16=True,
        use_cpu_initialization=True,
        tensor_model_parallel_size=torch.distributed.get_world_size() // pipeline[1],
        pipeline_model_parallel_size=pipeline[1],
        masked_softmax_fusion=False,
        bias_dropout_fusion=False,
        persist_layer_norm=False,
    )
    layer = get_gpt_layer_local_spec()
    layer.submodules.input_layernorm = layer.submodules.pre_mlp_layernorm = RMSNorm
    rank, ranks = pipeline
    return GPTModel(
        config,
        TransformerBlockSubmodules(layer_specs=[layer] * (LAYERS // ranks), layer_norm=RMSNorm),
        vocab_size=PADDED,
        max_sequence_length=512,
        pre_process=rank == 0,
        post_process=rank == ranks - 1,
        parallel_output=False,
        share_embeddings_and_output_weights=False,
        position_embedding_type="rope",
        rotary_base=20000,
    )


def fill(model: Any, tensor: tuple[int, int], first_layer: int) -> None:
    """Give every parameter numbers that depend on its name in the whole model alone, whatever the ranks are."""
    rank, ranks = tensor
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        if "layers" in parts:
            at = parts.index("layers") + 1
            parts[at] = str(int(parts[at]) + first_layer)
        whole_name = ".".join(parts)
        axis = None
        if name.endswith(("word_embeddings.weight", "output_layer.weight", "linear_qkv.weight", "linear_fc1.weight")):
            axis = 0
        elif name.endswith(("linear_proj.weight", "linear_fc2.weight")):
            axis = 1
        shape = list(parameter.shape)
        if axis is not None:
            shape[axis] *= ranks
        whole = numbers(whole_name, shape)
        if whole_name.endswith("linear_fc1.weight"):
            gate, up = whole.chunk(2)
            part = torch.cat([gate.chunk(ranks)[rank], up.chunk(ranks)[rank]])
        else:
            part = whole if axis is None else whole.chunk(ranks, dim=axis)[rank]
        parameter.data.copy_(part)


def numbers(name: str, shape: list[int]) -> torch.Tensor:
    """Return numbers for a weight; they are a hash of its name and their place, so no generator has to agree."""
    seed = sum((index + 1) * ord(letter) for index, letter in enumerate(name)) % 9973
    count = 1
    for length in shape:
        count *= length
    place = torch.arange(count, dtype=torch.int64)
    mixed = (place * 48271 + seed * 69621 + (place * place) % 7919 * 16807) % 65537
    values = (mixed.double() / 65537 - 0.5) * (0.5 if len(shape) > 1 else 0.2)
    return ((values if len(shape) > 1 else values + 1).reshape(shape)).to(torch.bfloat16)


def sharded_state(model: Any, parts: str, keywords: dict[str, Any]) -> dict[str, Any]:
    """Return what NeMo saves of a Video NeVA, under its names."""
    from megatron.core.transformer.utils import make_sharded_tensors_for_checkpoint

    prefix = "model."
    state = model.sharded_state_dict(prefix=prefix, metadata=keywords or None) if "llm" in parts else {}
    if not model.pre_process:
        return state
    below = f"{prefix}embedding.word_embeddings."
    if "projector" in parts:
        adapter = {
            f"{ADAPTER}.{index}.{rest}": numbers(f"projector.{index}.{rest}", shape)
            for index, width in ((0, TOWER), (2, HIDDEN))
            for rest, shape in (("weight", [HIDDEN, width]), ("bias", [HIDDEN]))
        }
        state |= make_sharded_tensors_for_checkpoint(adapter, below)
    if "tower" in parts:
        tower = {f"vision_encoder.{name}": tensor for name, tensor in tower_state().items()}
        state |= make_sharded_tensors_for_checkpoint(tower, below)
    return state


def tower_state() -> dict[str, torch.Tensor]:
    """Return the weights of a CLIP tower of two layers that was trained with the model."""
    square = [TOWER, TOWER]
    shapes = {
        "embeddings.class_embedding": [TOWER],
        "embeddings.patch_embedding.weight": [TOWER, 3, 14, 14],
        "embeddings.position_embedding.weight": [5, TOWER],
    }
    modules = {"pre_layrnorm": [TOWER], "post_layernorm": [TOWER]}
    for layer in (f"encoder.layers.{number}" for number in range(2)):
        modules |= {f"{layer}.self_attn.{name}_proj": square for name in ("q", "k", "v", "out")}
        modules |= {f"{layer}.mlp.fc1": square, f"{layer}.mlp.fc2": square}
        modules |= {f"{layer}.layer_norm1": [TOWER], f"{layer}.layer_norm2": [TOWER]}
    for name, shape in modules.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": [TOWER]}
    return {f"vision_model.{name}": numbers(name, shape) for name, shape in shapes.items()}


@torch.no_grad()
def compute(model: Any) -> torch.Tensor:
    """Return the model's logits in 32 bits for some tokens."""
    from megatron.core import tensor_parallel

    tensor_parallel.get_cuda_rng_tracker().fork = lambda *_, **__: contextlib.nullcontext()  # of dropout, which is off
    model = model.float()
    for module in model.modules():
        if getattr(module, "config", None) is not None:
            module.config.params_dtype = torch.float32
        if hasattr(module, "input_in_float16"):
            module.input_in_float16 = False
    tokens = torch.tensor([TOKENS])
    masked = torch.triu(torch.ones(1, 1, len(TOKENS), len(TOKENS), dtype=torch.bool), diagonal=1)
    logits: torch.Tensor = model(tokens, torch.arange(len(TOKENS))[None], masked)
    return logits[0, :, :VOCAB].clone()
