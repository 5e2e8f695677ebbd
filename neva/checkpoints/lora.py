"""LoRA adapters of NeMo, merged into the language model that they were trained over.

A checkpoint of NeVA's third recipe holds the adapters and the projector alone. NeMo has one pair of matrices for
queries, keys and values together, with the rows of its fused tensor, and one for both halves of the MLP's first layer.
What they add to a weight is (alpha / rank) x out x in, whatever dropout there was while they learned.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from connectors.errors import ConfigurationError
from neva.checkpoints.language_model import TextModel, read_text_model, text_tensors
from neva.checkpoints.names import LORA, Weight
from neva.checkpoints.weights import Tensors

_MERGE = "merge it into the model with NeMo, then import the merged .nemo"
_SCHEMES = {
    "adapter": "its layers are none of Llama's or Nemotron's: train with lora",
    "ia3": "its scales are none of Llama's or Nemotron's: train with lora",
    "ptuning": "its virtual tokens are in no vocabulary: train with lora",
    "mlp_head": "its head generates no text: train with lora",
    "qlora": _MERGE,
    "selective": "save the model whole with mm_cfg.llm.freeze: False",
    "sdlora": "it is for Stable Diffusion",
}


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """What a configuration says of its adapters: their rank, and what their product is multiplied by."""

    rank: int
    scale: float


def lora_settings(config: Mapping[str, Any]) -> LoraSettings | None:
    """Return the adapters that a ``model_config.yaml`` describes; None where it has none.

    Raises:
        ConfigurationError: they are of a kind that is not merged; the message says what to do.
    """
    peft: Mapping[str, Any] = config.get("peft") or {}
    scheme = peft.get("peft_scheme")
    if scheme in (None, "", "none"):
        return None
    if scheme != "lora":
        what = _SCHEMES.get(str(scheme), _MERGE)
        raise ConfigurationError(f"adapters of the scheme {scheme} are not imported: {what}", path="peft.peft_scheme")
    tuning: Mapping[str, Any] = peft.get("lora_tuning") or {}
    if tuning.get("variant", "nemo") != "nemo":
        raise ConfigurationError(
            f"LoRA of the variant {tuning['variant']} is not imported: {_MERGE}", path="peft.lora_tuning.variant"
        )
    if tuning.get("weight_tying"):
        raise ConfigurationError(
            f"LoRA that all layers share is not imported: {_MERGE}", path="peft.lora_tuning.weight_tying"
        )
    try:
        rank = int(tuning["adapter_dim"])
        alpha = float(tuning["alpha"]) if tuning.get("alpha") is not None else rank
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError("the checkpoint's LoRA has no rank", path="peft.lora_tuning.adapter_dim") from error
    if rank < 1:
        raise ConfigurationError("the checkpoint's LoRA has no rank", path="peft.lora_tuning.adapter_dim")
    return LoraSettings(rank, alpha / rank)


def with_adapters(
    state: Iterable[tuple[str, Any]], tensors: Tensors, config: Mapping[str, Any]
) -> Iterable[tuple[str, Any]]:
    """Return a language model's weights with the adapters among a checkpoint's ``tensors`` merged, where it has any.

    Raises:
        ConfigurationError: they can't be merged; some faults are only found while the weights are taken.
    """
    lora = lora_settings(config)
    if lora is not None:
        return _merged(state, _pairs(tensors, read_text_model(config), lora), lora)
    if any(weight.part.startswith(LORA) for weight in tensors):
        raise ConfigurationError(
            "the checkpoint holds LoRA adapters, and its configuration says nothing of them", path="peft.peft_scheme"
        )
    return state


def with_adapter(weight: Any, outer: Any, inner: Any, scale: float) -> Any:
    """Return a weight with an adapter's product added, in float32, and kept in the precision that the weight had."""
    change = outer.float() @ inner.float()
    return (weight.float() + scale * change.to(weight.device)).to(weight.dtype)


def _merged(
    state: Iterable[tuple[str, Any]], left: dict[str, tuple[Any, Any]], lora: LoraSettings
) -> Iterator[tuple[str, Any]]:
    """Yield weights by their names in the LLaVA layout, with the products of their pairs added."""
    for name, tensor in state:
        pair = left.pop(name, None)
        if pair is None:
            yield name, tensor
            continue
        inner, outer = pair
        if (outer.shape[0], inner.shape[1]) != tuple(tensor.shape):
            raise ConfigurationError(
                f"the adapter of {name} changes {outer.shape[0]} x {inner.shape[1]} numbers, the base model has "
                f"{tensor.shape[0]} x {tensor.shape[1]} there: it is another one",
                path="base_model_file",
            )
        yield name, with_adapter(tensor, outer, inner, lora.scale)
    if left:
        raise ConfigurationError(
            f"the base model has no {min(left)}, which the adapter changes: it is another one", path="base_model_file"
        )


def _pairs(tensors: Tensors, text: TextModel, lora: LoraSettings) -> dict[str, tuple[Any, Any]]:
    """Return the two matrices that are added to each weight, by its name in the LLaVA layout."""
    found = {weight for weight in tensors if weight.part.startswith(LORA)}
    if not found:
        raise ConfigurationError("the checkpoint's configuration speaks of LoRA, and it holds none")
    pairs = dict[str, tuple[Any, Any]]()
    for part, layer in sorted({(weight.part, weight.layer) for weight in found}, key=str):
        sides = [Weight(part, side, layer) for side in ("in", "out")]
        if not found.issuperset(sides):
            raise ConfigurationError(f"the checkpoint holds one side alone of {part} in layer {layer}")
        inner, outer = (tensors[side] for side in sides)
        if inner.shape[0] != lora.rank or outer.shape[1] != lora.rank:
            raise ConfigurationError(
                f"{part} in layer {layer} has the rank {inner.shape[0]}", path="peft.lora_tuning.adapter_dim"
            )
        rows = Weight(part.removeprefix(LORA), "weight", layer)
        pairs |= {name: (inner, own) for name, own in text_tensors({rows: outer}, text, 0)}
    return pairs
