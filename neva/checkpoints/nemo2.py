"""A checkpoint folder of NeMo 2: ``weights``, a distributed checkpoint, and ``context``, which describes the model.

``context/model.yaml`` names the classes and functions that NeMo would import and call. Here it is plain data: a name
stays a name, a tag of YAML is left out, and ``context/io.json``, the same once more, is not opened. What it says is put
into the words of ``model_config.yaml``, so that all that follows is one way for both generations.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from connectors.errors import ConfigurationError
from neva.checkpoints.archive import NemoArchive

WEIGHTS = "weights"
_MODEL = "context/model.yaml"
_TOKENIZER = "context/nemo_tokenizer"
_TARGET = "_target_"

# NeMo 2's names in the language model's configuration, and NeMo's; the values mean the same
_TEXT = {
    "num_layers": "num_layers",
    "hidden_size": "hidden_size",
    "ffn_hidden_size": "ffn_hidden_size",
    "num_attention_heads": "num_attention_heads",
    "num_query_groups": "num_query_groups",
    "kv_channels": "kv_channels",
    "layernorm_epsilon": "layernorm_epsilon",
    "rotary_percent": "rotary_percentage",
    "rotary_base": "rotary_base",
    "seq_length": "encoder_seq_length",
    "seq_len_interpolation_factor": "seq_len_interpolation_factor",
    "share_embeddings_and_output_weights": "share_embeddings_and_output_weights",
    "add_bias_linear": "bias",
}
_NEEDED = ("num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads")
_ACTIVATIONS = {("silu", True): "fast-swiglu", ("squared_relu", False): "squared-relu"}
_PROJECTORS = ("mlp2x_gelu", "mcore_mlp", "mlp")  # the second and third have the same two layers under other names


def is_nemo2(archive: NemoArchive) -> bool:
    """Return whether a checkpoint is a folder of NeMo 2."""
    return _MODEL in archive.names


class _PlainLoader(yaml.SafeLoader):
    """Reads YAML as plain data, whatever tags it has."""


def _untagged(loader: yaml.SafeLoader, _: str, node: yaml.Node) -> Any:
    match node:
        case yaml.MappingNode():
            return loader.construct_mapping(node, deep=True)
        case yaml.SequenceNode():
            return loader.construct_sequence(node, deep=True)
    return node.value


_PlainLoader.add_multi_constructor("!", _untagged)
_PlainLoader.add_multi_constructor("tag:", _untagged)


def checkpoint_config(archive: NemoArchive) -> dict[str, Any]:
    """Return what a checkpoint of either generation says of its model, in the words of ``model_config.yaml``.

    Raises:
        ConfigurationError: it can't be read, or describes a model that is not imported.
    """
    if not is_nemo2(archive):
        return archive.config()
    try:
        read = yaml.load(archive.read(_MODEL), Loader=_PlainLoader)  # noqa: S506 - a safe loader that drops tags
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, TypeError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigurationError(f"{_MODEL} in {archive.path} is not YAML: {first}") from error
    whole = read if isinstance(read, Mapping) else {}
    config = whole.get("config")
    if not isinstance(config, Mapping):
        raise ConfigurationError(f"{_MODEL} in {archive.path} describes no model: it has no config.")
    return {**_translated(config), "tokenizer": _tokenizer(archive, whole.get("tokenizer"))}


def _translated(config: Mapping[str, Any]) -> dict[str, Any]:
    language = config.get("language_transformer_config")
    if not isinstance(language, Mapping):  # of a language model alone, such as a base model
        return _text(config)
    return {**_text(language), "mm_cfg": _multimodal(config), "data": {"media_type": "image"}}


def _text(language: Mapping[str, Any]) -> dict[str, Any]:
    """Return the language model's part."""
    found = {theirs: language[name] for name, theirs in _TEXT.items() if language.get(name) is not None}
    missing = [
        name for name in ("num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads") if name not in found
    ]
    if missing:
        raise ConfigurationError(f"{_MODEL} does not say the language model's {missing[0]}")
    norm = str(language.get("normalization") or "LayerNorm")
    shifted = bool(language.get("layernorm_zero_centered_gamma"))
    found["normalization"] = "layernorm1p" if norm == "LayerNorm" and shifted else norm.lower()
    activation, gated = _name(language.get("activation_func")), bool(language.get("gated_linear_unit"))
    found["activation"] = _ACTIVATIONS.get((activation, gated), f"{activation}{', gated' if gated else ''}")
    found.setdefault("bias", False)
    found.setdefault("rotary_percentage", 1.0)
    if language.get("scale_factor") is not None:  # the class of Llama 3.1 and later
        found["scale_positional_embedding"] = True
    return found


def _multimodal(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of the multimodal model."""
    tower, projector = (_mapping(config.get(f"vision_{part}_config")) for part in ("transformer", "projection"))
    if not _name(tower.get(_TARGET)).startswith("HF"):
        raise ConfigurationError(
            f"a tower of {_name(tower.get(_TARGET)) or 'no class'} is not imported: those of HFCLIPVisionConfig are",
            path="vision_transformer_config",
        )
    kind = str(projector.get("projector_type") or "mlp2x_gelu")
    if kind not in _PROJECTORS:
        raise ConfigurationError(
            f"{kind} is not imported: {', '.join(_PROJECTORS)} are", path="vision_projection_config.projector_type"
        )
    size = tower.get("image_size")
    return {
        "llm": {"freeze": bool(config.get("freeze_language_model")), "model_type": "v1"},
        "vision_encoder": {
            "from_pretrained": tower.get("pretrained_model_name_or_path"),
            "from_hf": True,
            "vision_select_layer": int(config.get("vision_feature_layer") or -2),
            "class_token_length": int(bool(config.get("drop_vision_class_token", True))),
            "crop_size": [size, size] if isinstance(size, int) else None,
        },
        "mm_mlp_adapter_type": "mlp2x_gelu",
    }


def _tokenizer(archive: NemoArchive, said: Any) -> dict[str, Any]:
    """Return where the tokenizer is: in the checkpoint's own folder, or under a name of Hugging Face's."""
    folder = archive.path / _TOKENIZER
    name = str(folder) if folder.is_dir() else _mapping(said).get("pretrained_model_name")
    return {"library": "huggingface", "type": name} if name else {}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _name(value: Any) -> str:
    """Return the last part of the name of a class or function, which is written alone or as a mapping's target."""
    target = value.get(_TARGET) if isinstance(value, Mapping) else value
    return str(target or "").rpartition(".")[2]
