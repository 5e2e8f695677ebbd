"""The names of weights, in both generations of NeMo and in Hugging Face's LLaVA.

Between the libraries a weight is a :class:`Weight`: its part of the model, its layer, and ``weight`` or ``bias``.
"""

import re
from dataclasses import dataclass

from connectors.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight of a Video NeVA under a name that no library has.

    ``part`` is ``embed qkv o fc1 fc2 norm1 norm2 norm head projector`` or ``tower``; ``lora_`` before a part of a layer
    is its adapter. ``layer`` counts from 0 where the part belongs to a layer. ``rest`` is ``weight`` or ``bias``, in
    the projector with the index of its layer before it, in an adapter ``in`` or ``out``; in the tower it is the name
    that the tower's own library has.
    """

    part: str
    rest: str
    layer: int | None = None


# Megatron core's names of a layer's parts, and those of the generation before it
_LAYER = {
    "self_attention.linear_qkv.layer_norm": "norm1",
    "self_attention.linear_qkv": "qkv",
    "self_attention.linear_proj": "o",
    "mlp.linear_fc1.layer_norm": "norm2",
    "mlp.linear_fc1": "fc1",
    "mlp.linear_fc2": "fc2",
    "input_layernorm": "norm1",
    "self_attention.query_key_value": "qkv",
    "self_attention.dense": "o",
    "post_attention_layernorm": "norm2",
    "pre_mlp_layernorm": "norm2",
    "mlp.dense_h_to_4h": "fc1",
    "mlp.dense_4h_to_h": "fc2",
}
_IN_LAYER = re.compile(r"(?:decoder|encoder)\.layers\.(\d+)\.(.+?)[._](weight|bias)")
_PROJECTOR = re.compile(
    r"embedding\.word_embeddings\.adapter_layer\.(?:mm_projector_adapter\.mm_projector|mm_linear_adapter\.linear)\.(.+)"
)
_TOWER = re.compile(r"(?:embedding\.word_embeddings\.vision_encoder|vision_model(?=\.vision_model\.))\.(.+)")
# NeMo 2's projector, of torch's layers or of Megatron's, and the numbers that those of mlp2x_gelu have in NeMo
_PROJECTOR_2 = re.compile(r"vision_projection\.(0|2|encoder\.linear_fc1|encoder\.linear_fc2)\.(weight|bias)")
_PROJECTOR_2_LAYERS = {"encoder.linear_fc1": "0", "encoder.linear_fc2": "2"}
_TOP = {
    "embedding.word_embeddings": "embed",
    "decoder.final_layernorm": "norm",
    "encoder.final_layernorm": "norm",
    "output_layer": "head",
}
LORA = "lora_"  # before the part whose adapter a weight is
_ADAPTER = re.compile(r"(?:decoder|encoder)\.layers\.(\d+)\.(?:\w+\.)?adapter_layer\.(\w+)\.(.+)")
_LORA_PARTS = {
    "lora_kqv_adapter": "qkv",
    "lora_dense_attention_adapter": "o",
    "lora_hto4h_adapter": "fc1",
    "lora_4htoh_adapter": "fc2",
}
_LORA_SIDES = {"linear_in.weight": "in", "linear_out.weight": "out"}
_PREFIXES = re.compile(r"^(?:(?:model|module|language_model)\.)+")
_DROPPED = re.compile(
    r"_extra_state|rotary_pos_emb\.inv_freq|rotary_emb\.inv_freq|embeddings\.position_ids"
    r"|^(?:optimizer|rng_state|rerun_state_machine_state)\b"  # a run's own state, which NeMo 2 keeps beside the weights
)


def parse_name(name: str) -> Weight | None:
    """Return the weight that NeMo's ``name`` stands for.

    None for an entry that is no weight, such as rotary frequencies and the states of other libraries.

    Raises:
        ConfigurationError: it is a weight of an adapter other than LoRA or of experts, or one that no layout has.
    """
    if _DROPPED.search(name):
        return None
    bare = _PREFIXES.sub("", name)
    if (found := _ADAPTER.fullmatch(bare)) is not None:
        return _adapter_weight(found)
    if ".experts." in bare or ".router." in bare or "local_experts" in bare:
        raise ConfigurationError("the checkpoint is a mixture of experts; dense Llama and Nemotron models are imported")
    if (found := _PROJECTOR.fullmatch(bare)) is not None:
        return Weight("projector", found[1])
    if (found := _PROJECTOR_2.fullmatch(bare)) is not None:
        return Weight("projector", f"{_PROJECTOR_2_LAYERS.get(found[1], found[1])}.{found[2]}")
    if (found := _TOWER.fullmatch(bare)) is not None:
        return Weight("tower", found[1])
    if (found := _IN_LAYER.fullmatch(bare)) is not None and found[2] in _LAYER:
        return Weight(_LAYER[found[2]], found[3], int(found[1]))
    top, _, rest = bare.rpartition(".")
    if top in _TOP and rest in ("weight", "bias"):
        return Weight(_TOP[top], rest)
    raise ConfigurationError(f"the checkpoint holds {name}, which no Llama or Nemotron of NeMo has.")


def _adapter_weight(found: re.Match[str]) -> Weight:
    layer, adapter, rest = found.groups()
    if adapter not in _LORA_PARTS or rest not in _LORA_SIDES:
        raise ConfigurationError(
            f"the checkpoint holds {adapter}: of adapters, LoRA with fused queries, keys and values is imported; merge "
            "others into the model with NeMo, then import the merged .nemo"
        )
    return Weight(f"{LORA}{_LORA_PARTS[adapter]}", _LORA_SIDES[rest], int(layer))


_HF_LAYER = {
    "o": "self_attn.o_proj",
    "fc2": "mlp.down_proj",
    "norm1": "input_layernorm",
    "norm2": "post_attention_layernorm",
}
_HF_TOP = {"embed": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}


def llava_name(weight: Weight) -> str:
    """Return the name in Hugging Face's LLaVA layout of a weight that is a single tensor there."""
    if weight.part in _HF_TOP:
        return f"language_model.{_HF_TOP[weight.part]}.{weight.rest}"
    if weight.part in _HF_LAYER:
        return layer_name(weight.layer, _HF_LAYER[weight.part], weight.rest)
    if weight.part == "tower":
        return tower_name(weight.rest)
    raise ValueError(f"{weight} is no single weight there")


def layer_name(layer: int | None, part: str, rest: str) -> str:
    """Return the name of a part of a layer of the language model."""
    return f"language_model.model.layers.{layer}.{part}.{rest}"


def tower_name(name: str) -> str:
    """Return the name of a weight of the vision tower, with or without the prefix of the tower's own library."""
    return f"vision_tower.vision_model.{name.removeprefix('vision_model.')}"
