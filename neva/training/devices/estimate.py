"""Bytes that a device of a run will hold, from the shapes of a model without weights.

Weights, gradients and the optimiser's state are exact. What is gathered while a unit is computed, and activations, are
estimates: see :func:`activation_bytes`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from neva.training.adapters.lora import adapter_weights
from neva.training.adapters.settings import MODULES, LoraSettings
from neva.training.conversation_task import ConversationTask
from neva.training.devices.held_bytes import HeldBytes
from neva.training.devices.sharding import units
from neva.training.parts import Llava
from neva.training.settings import TrainingSettings

_MOMENTS = 2  # AdamW keeps two numbers for each that is trained
_COUNT_BYTES = 4  # and how many steps each tensor has had


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the model: its parameters, how many of them are trained, and the types that they have.

    An adapter is a part of its own and belongs to no other.
    """

    name: str
    parameters: int
    trained: int
    types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run's fullest device will hold; ``working`` are FSDP2's gathered weights or DDP's buckets of gradients."""

    parts: tuple[Part, ...]
    held: HeldBytes
    working: int
    activations: int

    @property
    def total(self) -> int:
        """All bytes of a device."""
        return self.held.total + self.working + self.activations


def estimate(llava: Llava, settings: TrainingSettings, devices: int, *, sharded: bool) -> Estimate:
    """Return what the fullest of ``devices`` will hold of a model that lies on the meta device."""
    task = ConversationTask(llava.model)
    working = _gathered_bytes(task, settings) if sharded else _bucket_bytes(task) if devices > 1 else 0
    return Estimate(
        tuple(_parts(llava.model)),
        share_bytes(task, devices if sharded else 1),
        working,
        activation_bytes(llava, settings),
    )


def share_bytes(task: nn.Module, shares: int) -> HeldBytes:
    """Return the bytes of the fullest of ``shares``: FSDP2 divides each tensor by its rows, rounded up."""
    weights = gradients = optimiser = 0
    for weight in task.parameters():
        rows = weight.shape[0] if weight.ndim else 1
        share = math.ceil(rows / shares) * (weight.numel() // max(1, rows)) * weight.itemsize
        weights += share
        if weight.requires_grad:
            gradients += share
            optimiser += _MOMENTS * share + _COUNT_BYTES
    return HeldBytes(weights, gradients, optimiser)


def activation_bytes(llava: Llava, settings: TrainingSettings) -> int:
    """Return about how many bytes of activations a micro batch of the longest samples keeps for its backward pass.

    With h the width, k the width of keys and values, f that of the MLP, and e the bytes of a number, a decoder layer
    keeps e (9 h + 2 k + 4 f) for each token, and e (6 h + 2 k + 3 f) where its weights are frozen; attention keeps no
    scores. An adapter keeps what its modules are given, and a row of its rank for each of them. With activations that
    are computed again a layer keeps e h, and one layer all of that. A trained tower's layer keeps e (11 h + 2 f) for
    each patch, and a frozen tower nothing. Each token of an answer keeps two rows of logits.
    """
    model, inner = settings.model, llava.model.model
    text, tower = llava.model.config.text_config, llava.model.config.vision_config
    number = 2 if settings.trainer.precision == "bf16" else 4
    longest = min(model.encoder_seq_length, text.max_position_embeddings)
    seen = llava.patches * model.data.frames_shown
    h, f = text.hidden_size, text.intermediate_size
    k = h * text.num_key_value_heads // text.num_attention_heads
    layer = 6 * h + 2 * k + 3 * f if model.mm_cfg.llm.freeze else 9 * h + 2 * k + 4 * f
    layers = text.num_hidden_layers
    own = _adapter_numbers(settings, h, f)
    if model.activations_checkpoint_granularity:
        kept = layers * h + layer + own
    else:
        kept = layers * layer + own * _adapted_layers(model.peft.lora, layers)
    a_sample = longest * kept * number + 2 * max(0, longest - seen) * text.vocab_size * 4
    if any(weight.requires_grad for weight in inner.vision_tower.parameters()):
        a_patch = 11 * tower.hidden_size + 2 * tower.intermediate_size
        a_sample += seen * tower.num_hidden_layers * a_patch * number
    return int(model.micro_batch_size * a_sample)


def _adapter_numbers(settings: TrainingSettings, h: int, f: int) -> int:
    """Return how many numbers of each token an adapter keeps in a layer; 0 without one.

    Modules that are given the same share it, unless each casts it to the adapter's type or drops a part of it.
    """
    lora = settings.model.peft.lora
    if lora is None:
        return 0
    copied = settings.trainer.precision == "bf16" or lora.adapter_dropout > 0
    given = 0
    for part, modules in MODULES.items():
        if own := [module for module in modules if module in lora.modules]:
            given += (f if part == "mlp_fc2" else h) * (len(own) if copied else 1)
    return given + lora.adapter_dim * len(lora.modules)


def _adapted_layers(lora: LoraSettings | None, layers: int) -> int:
    if lora is None:
        return 0
    return len(set(lora.layer_selection)) if lora.layer_selection else layers


def _parts(model: Any) -> Iterator[Part]:
    adapter = set(adapter_weights(model))
    for name, modules in (
        ("vision tower", (model.model.vision_tower,)),
        ("projector", (model.model.multi_modal_projector,)),
        ("language model", (model.model.language_model, model.lm_head)),
    ):
        yield _part(name, {weight for module in modules for weight in module.parameters()} - adapter)
    if adapter:
        yield _part("adapter", adapter)


def _part(name: str, weights: set[Any]) -> Part:
    types = sorted({str(weight.dtype).removeprefix("torch.") for weight in weights})
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    return Part(name, sum(weight.numel() for weight in weights), trained, tuple(types))


def _gathered_bytes(task: nn.Module, settings: TrainingSettings) -> int:
    """Return what is gathered at once: what belongs to no unit, a unit at work, and the one that comes next."""
    in_units: set[Any] = set()
    sizes = [0]
    for unit in units(task):
        sizes.append(sum(_computed_bytes(weight, settings) for weight in unit.parameters()))
        in_units |= set(unit.parameters())
    rest = sum(_computed_bytes(weight, settings) for weight in task.parameters() if weight not in in_units)
    return rest + 2 * max(sizes)


def _computed_bytes(weight: Any, settings: TrainingSettings) -> int:
    return int(weight.numel() * (2 if settings.trainer.precision == "bf16" else weight.itemsize))


def _bucket_bytes(task: nn.Module) -> int:
    """Return the bytes of DDP's buckets, in which gradients are averaged."""
    return sum(weight.nbytes for weight in task.parameters() if weight.requires_grad)
