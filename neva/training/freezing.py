"""Freezing of the parts that a run does not train, and the precision and weight decay of those that it does."""

from typing import Any

from neva.training.settings import MmSettings, ModelSettings


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


def decay_groups(task: Any, settings: ModelSettings) -> list[Any]:
    """Return the trained parameters of ``task`` for an optimiser, in groups where some of them do not decay.

    As in NeMo, norms and biases do not where the language model learns, unless ``do_layer_norm_weight_decay``.
    """
    trained = [weight for weight in task.parameters() if weight.requires_grad]
    alike = settings.mm_cfg.llm.freeze or settings.do_layer_norm_weight_decay
    if alike or not settings.optim.weight_decay:
        return trained
    spared = {
        id(weight)
        for module in task.modules()
        for name, weight in module.named_parameters(recurse=False)
        if name.endswith("bias") or "Norm" in type(module).__name__
    }
    return [
        {"params": [weight for weight in trained if id(weight) not in spared]},
        {"params": [weight for weight in trained if id(weight) in spared], "weight_decay": 0.0},
    ]
