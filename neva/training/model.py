"""The model of a run before its first step: its parts, frozen or trained, as a step and a dry run both begin."""

from neva.media_settings import ModelSettings as Facts
from neva.training.adapters.lora import add_adapter
from neva.training.freezing import freeze_parts
from neva.training.parts import Llava, load_parts
from neva.training.settings import TrainingSettings


def load_model(settings: TrainingSettings, facts: Facts, *, empty: bool = False) -> Llava:
    """Return the model that ``settings`` name, each part of it frozen or trained; an ``empty`` one has no weights.

    Raises:
        ConfigurationError: a part is missing or does not fit the others.
    """
    llava = load_parts(settings.model, facts, bf16=settings.trainer.precision == "bf16", empty=empty)
    freeze_parts(llava.model, settings.model.mm_cfg)
    add_adapter(llava.model, settings.model.peft)
    if settings.model.activations_checkpoint_granularity is not None:
        llava.model.model.language_model.gradient_checkpointing_enable({"use_reentrant": False})
    return llava
