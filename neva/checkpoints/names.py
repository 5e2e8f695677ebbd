"""The names of weights: what NeMo calls them, in both of its generations, and what Hugging Face's LLaVA does.

Every weight has one name of ours in between, a :class:`Weight`: its part, its layer, and ``weight`` or ``bias``.
"""

import re
from dataclasses import dataclass

from connectors.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Weight:
    """``part`` is ``embed qkv o fc1 fc2 norm1 norm2 norm head projector`` or ``tower``.

    ``layer`` counts from 0 where the part is one of a layer, and ``rest`` is what follows: ``weight`` or ``bias``, the
    projector's index before it, or the tower's own name.
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
_TOWER = re.compile(r"embedding\.word_embeddings\.vision_encoder\.(.+)")
_TOP = {
    "embedding.word_embeddings": "embed",
    "decoder.final_layernorm": "norm",
    "encoder.final_layernorm": "norm",
    "output_layer": "head",
}
_PREFIXES = re.compile(r"^(?:(?:model|module|language_model)\.)+")
_DROPPED = re.compile(r"_extra_state|rotary_pos_emb\.inv_freq|rotary_emb\.inv_freq")


def parse_name(name: str) -> Weight | None:
    """Return what NeMo means by ``name``; None for what is no weight (rotary frequencies, states of other libraries).

    Raises:
        ConfigurationError: a weight of an adapter, of experts, or one that no known layout has.
    """
    if _DROPPED.search(name):
        return None
    bare = _PREFIXES.sub("", name)
    if "lora_" in bare:
        raise ConfigurationError(
            "the checkpoint holds LoRA adapters: merge them into the model with NeMo, then import the merged .nemo"
        )
    if ".experts." in bare or ".router." in bare or "local_experts" in bare:
        raise ConfigurationError("the checkpoint is a mixture of experts; dense Llama and Nemotron models are imported")
    if (found := _PROJECTOR.fullmatch(bare)) is not None:
        return Weight("projector", found[1])
    if (found := _TOWER.fullmatch(bare)) is not None:
        return Weight("tower", found[1])
    if (found := _IN_LAYER.fullmatch(bare)) is not None and found[2] in _LAYER:
        return Weight(_LAYER[found[2]], found[3], int(found[1]))
    top, _, rest = bare.rpartition(".")
    if top in _TOP and rest in ("weight", "bias"):
        return Weight(_TOP[top], rest)
    raise ConfigurationError(f"the checkpoint holds {name}, which no Llama or Nemotron of NeMo has.")


_HF_LAYER = {
    "o": "self_attn.o_proj",
    "fc2": "mlp.down_proj",
    "norm1": "input_layernorm",
    "norm2": "post_attention_layernorm",
}
_HF_TOP = {"embed": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}


def llava_name(weight: Weight) -> str:
    """Return the name in Hugging Face's LLaVA layout of a weight that is one there too."""
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
    """Return the name of a weight of the vision tower, however its own library starts it."""
    return f"vision_tower.vision_model.{name.removeprefix('vision_model.')}"
