"""The folder that vLLM serves: a Video NeVA in Hugging Face's LLaVA layout, with its tokenizer and processor."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from connectors.errors import ConfigurationError
from neva.checkpoints.model_folder.facts import write_facts
from neva.checkpoints.weights import Tensors
from neva.conversations import EOS_ALIAS, STOP, TEMPLATES, Turn, conversation, own_tokens
from neva.media_settings import ModelSettings
from neva.pixel_values import TowerPixels, processor_config

IDENTITY = "torch.nn.modules.linear.Identity"  # vLLM knows no shorter name for the identity as an activation

_QUESTION = "\0"  # marks the place of the question in a rendered conversation; no text holds it


def llava_config(
    text: Any, tower: Any, *, image_token_id: int, activation: str, feature_layer: int, every_feature: bool
) -> Any:
    """Return the configuration of a LLaVA made of a language model and a tower, given by their configurations.

    The projector gets the tower's features of ``feature_layer``: each of them with ``every_feature``, or else all but
    the first one, the class token's.
    """
    from transformers import LlavaConfig

    config = LlavaConfig(
        vision_config=tower,
        text_config=text,
        image_token_index=image_token_id,
        image_seq_length=(tower.image_size // tower.patch_size) ** 2,
        projector_hidden_act=activation,
        vision_feature_select_strategy="full" if every_feature else "default",
        vision_feature_layer=feature_layer,
        multimodal_projector_bias=True,
        tie_word_embeddings=bool(text.tie_word_embeddings),
    )
    config.architectures = ["LlavaForConditionalGeneration"]
    return config


def projector_state(tensors: Tensors, kind: str) -> tuple[dict[str, Any], str]:
    """Return the weights of the projector as LLaVA's two layers, and the activation between them.

    A ``linear`` projector becomes the first layer, without an activation and with the identity as the second layer,
    which computes the same numbers.

    Raises:
        ConfigurationError: the projector is of a kind that LLaVA does not have; the message says what to do.
    """
    import torch

    found = {weight.rest: tensors[weight] for weight in tensors if weight.part == "projector"}
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


def chat_template(facts: ModelSettings, image_token: str) -> str | None:
    """Return the model's prompt template as a Jinja chat template for one question; None for the template ``auto``."""
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


def write_llava_files(
    folder: Path, config: Any, tokenizer: Any, image_token: str, pixels: TowerPixels, facts: ModelSettings
) -> None:
    """Write everything but the weights into ``folder``."""
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
    write_facts(folder, facts)


def write_generation_config(folder: Path, tokenizer: Any, stops: Sequence[str]) -> None:
    """Write the tokens that end an answer: those of ``stops`` that are one token of the vocabulary."""
    from transformers import GenerationConfig

    vocabulary = tokenizer.get_vocab()
    ends = list(dict.fromkeys(vocabulary[text] for text in stops if text in vocabulary))
    GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=ends or None, pad_token_id=tokenizer.pad_token_id
    ).save_pretrained(folder)
