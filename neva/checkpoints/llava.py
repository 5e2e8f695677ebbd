"""The folder that vLLM serves: a Video NeVA in Hugging Face's LLaVA layout, and what it says about itself."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from connectors.errors import ConfigurationError
from neva.checkpoints.weights import Tensors
from neva.conversations import EOS_ALIAS, STOP, TEMPLATES, Turn, conversation, own_tokens
from neva.media_settings import ModelSettings
from neva.pixel_values import CLIP, SIGLIP, TowerPixels, processor_config

FACTS = "neva.yaml"
_QUESTION = "\0"
IDENTITY = "torch.nn.modules.linear.Identity"  # vLLM's only word for an activation that does nothing


@dataclass(frozen=True, slots=True)
class Tower:
    """A vision tower: its Hugging Face configuration, and its weights under their names in the LLaVA layout."""

    config: Any
    state: Mapping[str, Any]

    @property
    def pixels(self) -> TowerPixels:
        """How frames are scaled for it."""
        return SIGLIP if self.config.model_type.startswith("siglip") else CLIP


def projector_state(tensors: Tensors, kind: str) -> tuple[dict[str, Any], str]:
    """Return the projector in LLaVA's two layers, and the activation between them.

    ``linear`` is its first layer, nothing in between, and the identity as its second: the same numbers.

    Raises:
        ConfigurationError: a projector that LLaVA has no place for, named with what to do.
    """
    import torch

    found = {weight.rest: tensor for weight, tensor in tensors.items() if weight.part == "projector"}
    if kind == "mlp_downsample" or "4.weight" in found:
        raise ConfigurationError(
            f"mm_mlp_adapter_type: {kind} is not imported, for vLLM's LLaVA has no such projector: "
            "serve it with NeMo, or train a projector of type mlp2x_gelu",
            path="mm_cfg.mm_mlp_adapter_type",
        )
    layers = {"linear": ("",), "mlp2x_gelu": ("0.", "2.")}.get(kind)
    if layers is None:
        raise ConfigurationError(
            f"{kind} is not imported: linear and mlp2x_gelu are", path="mm_cfg.mm_mlp_adapter_type"
        )
    wanted = {f"{layer}{rest}" for layer in layers for rest in ("weight", "bias")}
    if found.keys() != wanted:
        raise ConfigurationError(f"the projector {kind} has {sorted(found)}, not {sorted(wanted)}")
    if kind == "mlp2x_gelu":
        names = {"0.": "linear_1.", "2.": "linear_2."}
        state = {f"multi_modal_projector.{names[name[:2]]}{name[2:]}": tensor for name, tensor in found.items()}
        return state, "gelu"
    weight, bias = found["weight"], found["bias"]
    width = weight.shape[0]
    return {
        "multi_modal_projector.linear_1.weight": weight,
        "multi_modal_projector.linear_1.bias": bias,
        "multi_modal_projector.linear_2.weight": torch.eye(width, dtype=weight.dtype),
        "multi_modal_projector.linear_2.bias": torch.zeros(width, dtype=weight.dtype),
    }, IDENTITY


def reverse_channels(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tower that sees of RGB frames what it saw of BGR ones, together with a reversed :class:`TowerPixels`."""
    first = "vision_tower.vision_model.embeddings.patch_embedding.weight"
    return {**state, first: state[first].flip(1).contiguous()}


def chat_template(facts: ModelSettings, image_token: str) -> str | None:
    """Return the checkpoint's conversation as a chat template for one question; None where it names none."""
    if facts.conv_template not in TEMPLATES:
        return None
    whole = own_tokens(facts.conv_template, conversation(facts.conv_template, [Turn(_QUESTION)]))
    before, _, after = (json.dumps(part) for part in whole.partition(_QUESTION))
    image = json.dumps(image_token)
    return (
        "{%- set asked = messages | selectattr('role', 'equalto', 'user') | list -%}"
        "{%- if asked | length != 1 -%}{{- raise_exception('one question is asked') -}}{%- endif -%}"
        f"{{{{- {before} -}}}}"
        "{%- for message in asked -%}{%- if message['content'] is string -%}{{- message['content'] -}}{%- else -%}"
        "{%- for part in message['content'] -%}{%- if part['type'] in ['image', 'image_url'] -%}"
        f"{{{{- {image} -}}}}"
        "{%- else -%}{{- part['text'] -}}{%- endif -%}{%- endfor -%}{%- endif -%}{%- endfor -%}"
        f"{{{{- {after} -}}}}"
    )


def write_facts(folder: Path, facts: ModelSettings) -> None:
    """Write what a model says about itself into its folder."""
    text = yaml.safe_dump(facts.model_dump(mode="json"), sort_keys=False)
    (folder / FACTS).write_text(text, encoding="utf-8")


def read_facts(folder: Path) -> ModelSettings:
    """Return what a model's folder says about itself; the defaults where it says nothing."""
    path = folder / FACTS
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return ModelSettings.model_validate(values or {})
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path} is wrong: {error}") from error


def write_llava(
    folder: Path,
    state: Mapping[str, Any],
    config: Any,
    tokenizer: Any,
    image_token: str,
    pixels: TowerPixels,
    facts: ModelSettings,
) -> None:
    """Write model, tokenizer, processor and facts into ``folder``, which is there and empty."""
    from huggingface_hub import save_torch_state_dict

    config.save_pretrained(folder)
    tokenizer.chat_template = chat_template(facts, image_token)
    tokenizer.save_pretrained(folder)
    crop_px = config.vision_config.image_size
    processor = {
        "processor_class": "LlavaProcessor",
        "patch_size": config.vision_config.patch_size,
        "vision_feature_select_strategy": config.vision_feature_select_strategy,
        "num_additional_image_tokens": 0 if config.vision_config.model_type.startswith("siglip") else 1,
        "image_token": image_token,
    }
    scaled = processor_config(pixels, crop_px, facts.image_aspect_ratio) | {"processor_class": "LlavaProcessor"}
    (folder / "processor_config.json").write_text(json.dumps(processor, indent=2) + "\n")
    (folder / "preprocessor_config.json").write_text(json.dumps(scaled, indent=2) + "\n")
    stops = (tokenizer.eos_token, EOS_ALIAS, *STOP.get(facts.conv_template, ()))
    write_generation_config(folder, tokenizer, [text for text in stops if text])
    save_torch_state_dict({name: _on_its_own(tensor) for name, tensor in state.items()}, folder, max_shard_size="5GB")
    write_facts(folder, facts)


def write_generation_config(folder: Path, tokenizer: Any, stops: Sequence[str]) -> None:
    """Write which tokens end an answer: those of ``stops`` that the vocabulary has as one token."""
    from transformers import GenerationConfig

    vocabulary = tokenizer.get_vocab()
    ends = list(dict.fromkeys(vocabulary[text] for text in stops if text in vocabulary))
    GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=ends or None, pad_token_id=tokenizer.pad_token_id
    ).save_pretrained(folder)


def _on_its_own(tensor: Any) -> Any:
    """Return a tensor that is all of its memory: parts of a larger one would be written with the whole of it."""
    whole = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
    return tensor if whole else tensor.clone().contiguous()
