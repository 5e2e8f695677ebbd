"""Freezing of the parts that a run does not train, and the precision of those that it does."""

from typing import Any

from neva.training.settings import MmSettings


def freeze_parts(llava: Any, parts: MmSettings) -> None:
    """Freeze the weights of each part that ``parts`` says to freeze, and unfreeze those of every other part."""
    model = llava.model
    for frozen, modules in (
        (parts.llm.freeze, (model.language_model, llava.lm_head)),
        (parts.vision_encoder.freeze, (model.vision_tower,)),
        (parts.freeze_mm_mlp_adapter, (model.multi_modal_projector,)),
    ):
        for module in modules:
            module.requires_grad_(not frozen)
    if llava.config.projector_hidden_act == "linear":  # the second layer only passes on the output of the first
        model.multi_modal_projector.linear_2.requires_grad_(False)


def train_in_float32(llava: Any, parts: MmSettings) -> None:
    """Make the projector and every part that is trained float32; frozen parts keep the type they are stored in."""
    model = llava.model
    model.multi_modal_projector.float()
    for frozen, modules in (
        (parts.llm.freeze, (model.language_model, llava.lm_head)),
        (parts.vision_encoder.freeze, (model.vision_tower,)),
    ):
        for module in modules:
            if not frozen:
                module.float()
