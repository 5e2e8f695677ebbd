"""The language model of a NeMo checkpoint as Hugging Face's Llama or Nemotron: its configuration and its weights."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from connectors.errors import ConfigurationError
from neva.checkpoints.names import LORA, Weight, layer_name, llava_name
from neva.checkpoints.weights import Shape, Tensors

# The values that mark each family in a configuration; any other is of another architecture under the same names.
_FAMILIES: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "llama": {
        "normalization": ("rmsnorm",),
        "activation": ("fast-swiglu", "swiglu"),
        "rotary_percentage": (1.0,),
        "bias": (False,),
    },
    "nemotron": {"normalization": ("layernorm1p",), "activation": ("squared-relu",), "bias": (False,)},
}
_DEFAULTS = {"normalization": "layernorm", "activation": "gelu", "rotary_percentage": 1.0, "bias": True}


@dataclass(frozen=True, slots=True)
class TextModel:
    """The sizes of a language model. ``groups`` counts the heads of keys and values, ``head_dim`` is in channels."""

    family: Literal["llama", "nemotron"]
    layers: int
    hidden: int
    intermediate: int
    heads: int
    groups: int
    head_dim: int
    tied: bool

    @property
    def shape(self) -> Shape:
        """The facts that joining its ranks needs."""
        return Shape(self.layers, gated=self.family == "llama")


def read_text_model(config: Mapping[str, Any]) -> TextModel:
    """Return the language model that ``model_config.yaml`` describes.

    Raises:
        ConfigurationError: it is neither a Llama nor a Nemotron, or needs a feature that neither has.
    """
    given = {**_DEFAULTS, **{key: config[key] for key in _DEFAULTS if config.get(key) is not None}}
    family = next(
        (name for name, wants in _FAMILIES.items() if all(given[key] in allowed for key, allowed in wants.items())),
        None,
    )
    if family is None:
        said = ", ".join(f"{key}: {value}" for key, value in given.items())
        raise ConfigurationError(f"{said} is neither a Llama nor a Nemotron; no other text model is imported")
    if config.get("scale_positional_embedding"):
        raise ConfigurationError("scale_positional_embedding (Llama 3.1's rotary scaling) is not imported")
    heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
    return TextModel(
        "llama" if family == "llama" else "nemotron",
        int(config["num_layers"]),
        hidden,
        int(config["ffn_hidden_size"]),
        heads,
        int(config.get("num_query_groups") or heads),
        int(config.get("kv_channels") or hidden // heads),
        bool(config.get("share_embeddings_and_output_weights", False)),
    )


def text_config(config: Mapping[str, Any], text: TextModel, vocab_size: int, tokens: Mapping[str, int | None]) -> Any:
    """Return the Hugging Face configuration; ``tokens`` are ``bos_token_id`` and the like."""
    from transformers import LlamaConfig, NemotronConfig

    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": float(config.get("rotary_base") or 10_000)}
    if factor := config.get("seq_len_interpolation_factor"):
        rope |= {"rope_type": "linear", "factor": float(factor)}
    common = {
        "vocab_size": vocab_size,
        "hidden_size": text.hidden,
        "intermediate_size": text.intermediate,
        "num_hidden_layers": text.layers,
        "num_attention_heads": text.heads,
        "num_key_value_heads": text.groups,
        "head_dim": text.head_dim,
        "max_position_embeddings": int(config.get("encoder_seq_length") or config["max_position_embeddings"]),
        "tie_word_embeddings": text.tied,
        **tokens,
    }
    epsilon = float(config.get("layernorm_epsilon") or 1e-5)
    if text.family == "llama":
        return LlamaConfig(
            **common,
            rms_norm_eps=epsilon,
            rope_parameters=rope,
            architectures=["LlamaForCausalLM"],
            attention_bias=False,
        )
    share = float(config.get("rotary_percentage") or 1.0)
    return NemotronConfig(
        **common,
        norm_eps=epsilon,
        rope_parameters=rope | {"partial_rotary_factor": share},
        partial_rotary_factor=share,
        architectures=["NemotronForCausalLM"],
    )


def text_tensors(tensors: Tensors, text: TextModel, rows: int) -> Iterator[tuple[str, Any]]:
    """Yield the language model's weights under their names in the LLaVA layout, with ``rows`` rows of vocabulary.

    Each is read from ``tensors`` when its turn comes.

    Raises:
        ConfigurationError: a weight has another shape than the configuration says.
    """
    for weight in tensors:
        if weight.part not in ("projector", "tower") and not weight.part.startswith(LORA):
            yield from _as_llava(weight, tensors[weight], text, rows)


def _as_llava(weight: Weight, tensor: Any, text: TextModel, rows: int) -> Iterator[tuple[str, Any]]:
    match weight.part:
        case "embed" | "head":
            yield llava_name(weight), fit_rows(tensor, rows)
        case "qkv":
            yield from _split_qkv(weight, tensor, text).items()
        case "fc1" if text.family == "llama":
            gate, up = tensor.chunk(2, dim=0)
            yield layer_name(weight.layer, "mlp.gate_proj", weight.rest), gate.clone()
            yield layer_name(weight.layer, "mlp.up_proj", weight.rest), up.clone()
        case "fc1":
            yield layer_name(weight.layer, "mlp.up_proj", weight.rest), tensor
        case _:
            yield llava_name(weight), tensor


def check_whole(tensors: Tensors, text: TextModel) -> None:
    """Refuse a language model that lacks a weight."""
    wanted = [Weight("embed", "weight"), Weight("norm", "weight")] + ([] if text.tied else [Weight("head", "weight")])
    parts = ("qkv", "o", "fc1", "fc2", "norm1", "norm2")
    wanted += [Weight(part, "weight", layer) for layer in range(text.layers) for part in parts]
    missing = [weight for weight in wanted if weight not in tensors]
    if missing:
        first = missing[0]
        where = "" if first.layer is None else f" of layer {first.layer}"
        raise ConfigurationError(
            f"the checkpoint lacks {len(missing)} weights of its language model: {first.part}{where}"
        )


def _split_qkv(weight: Weight, tensor: Any, text: TextModel) -> dict[str, Any]:
    """Return queries, keys and values; NeMo's tensor holds each group's queries, its key and its value in turn."""
    of_group = text.heads // text.groups
    if tensor.shape[0] != (text.heads + 2 * text.groups) * text.head_dim:
        raise ConfigurationError(
            f"layer {weight.layer} has {tensor.shape[0]} rows of queries, keys and values, not those of {text.heads} "
            f"heads in {text.groups} groups of {text.head_dim} channels"
        )
    groups = tensor.reshape(text.groups, of_group + 2, text.head_dim, *tensor.shape[1:])
    parts = {
        "q_proj": groups[:, :of_group],
        "k_proj": groups[:, of_group : of_group + 1],
        "v_proj": groups[:, of_group + 1 :],
    }
    return {
        layer_name(weight.layer, f"self_attn.{name}", weight.rest): part.reshape(-1, *tensor.shape[1:]).contiguous()
        for name, part in parts.items()
    }


def fit_rows(tensor: Any, rows: int) -> Any:
    """Return an embedding with ``rows`` rows: NeMo's padding is removed, and missing rows are copies of row 0.

    Row 0 belongs to the unknown token, which is part of no answer: the model has learned not to generate it, and does
    not generate the tokens of the copies either.
    """
    import torch

    if tensor.shape[0] >= rows:
        return tensor[:rows].contiguous()
    return torch.cat([tensor, tensor[:1].expand(rows - tensor.shape[0], -1)])
