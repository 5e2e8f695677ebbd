"""Export of a trained model to a folder that both transformers and vLLM load."""

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from connectors.errors import ConfigurationError
from daemon.engines.model.lora_adapter import CONFIG
from neva.checkpoints.model_folder.facts import FACTS
from neva.checkpoints.model_folder.llava import IDENTITY, write_llava_files
from neva.checkpoints.model_folder.new_folder import new_folder
from neva.checkpoints.model_folder.weight_files import write_weights
from neva.media_settings import ModelSettings
from neva.training.adapters.lora import LazyState, export_adapter, merged, without_adapter
from neva.training.parts import Llava
from neva.training.settings import TrainingSettings

# transformers 5 saves a CLIP tower without the inner name that vLLM looks for; transformers reads either form.
_SAVED, _SERVED = "vision_tower.", "vision_tower.vision_model."


def check_export(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier export, with a :class:`ConfigurationError`."""
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / FACTS).is_file())):
        raise ConfigurationError(f"{folder} holds something else than a model", path="exp_manager.export_dir")


def check_exports(settings: TrainingSettings) -> None:
    """Refuse folders for what a run will write that hold anything else, with a :class:`ConfigurationError`."""
    places = settings.exp_manager
    check_export(places.model_folder)
    if settings.model.peft.lora is None:
        return
    check_export(places.base_folder)
    adapter = places.adapter_folder
    if adapter.exists() and not (adapter / CONFIG).is_file():
        raise ConfigurationError(f"{adapter} holds something else than an adapter", path="exp_manager.exp_dir")


def export_run(settings: TrainingSettings, llava: Llava, facts: ModelSettings, *, main: bool = True) -> None:
    """Write a run's model, and where an adapter was trained the adapter with the model that it belongs to.

    The model has the adapter merged. The adapter belongs to the model that the run began with, or, where the projector
    learned too or there was no such folder, to ``base`` beside it: that language model behind this projector. All
    processes that share a model call this.
    """
    places, model = settings.exp_manager, settings.model
    state = llava.model.state_dict()
    export_llava(places.model_folder, llava, facts, merged(state, model.peft), main=main)
    if model.peft.lora is None:
        return
    base = model.restore_from_path if model.mm_cfg.freeze_mm_mlp_adapter else None
    if base is None:
        base = str(places.base_folder)
        export_llava(places.base_folder, llava, facts, without_adapter(state), main=main)
    export_adapter(places.adapter_folder if main else None, llava.model, state, base)


def export_llava(
    folder: Path, llava: Llava, facts: ModelSettings, state: Mapping[str, Any] | None = None, *, main: bool = True
) -> None:
    """Write a model and its facts into ``folder``, in the place of an earlier export.

    Weights, which ``state`` gives instead of the model itself, keep the precision that they have. The folder is written
    under another name and renamed into place. All processes that share a model call this; the ``main`` one writes, the
    others give it their shares.
    """
    given = llava.model.state_dict() if state is None else state
    served = {served_name(name): partial(given.__getitem__, name) for name in given}
    if llava.model.config.text_config.tie_word_embeddings:
        del served["language_model.lm_head.weight"]
    weights = LazyState(served)
    if not main:
        write_weights(None, weights)
        return
    check_export(folder)
    config = type(llava.model.config).from_dict(llava.model.config.to_dict())
    config.architectures = ["LlavaForConditionalGeneration"]
    config.dtype = next(llava.model.model.language_model.parameters()).dtype
    if config.projector_hidden_act == "linear":
        config.projector_hidden_act = IDENTITY
    with new_folder(folder) as new:
        write_llava_files(new, config, llava.tokenizer, llava.image_token, llava.pixels, facts)
        write_weights(new, weights)
        for path in new.iterdir():
            path.chmod(0o755 if path.is_dir() else 0o644)
        if folder.exists():
            shutil.rmtree(folder)


def served_name(name: str) -> str:
    """Return the name that a weight of transformers' LLaVA has in the layout that vLLM reads.

    >>> served_name("model.vision_tower.encoder.layers.0.mlp.fc1.bias")
    'vision_tower.vision_model.encoder.layers.0.mlp.fc1.bias'
    >>> served_name("model.language_model.norm.weight")
    'language_model.model.norm.weight'
    """
    if name.startswith("lm_head."):
        return f"language_model.{name}"
    name = name.removeprefix("model.")
    if name.startswith("language_model."):
        return name.replace("language_model.", "language_model.model.", 1)
    if name.startswith(_SAVED) and not name.startswith(_SERVED):
        return name.replace(_SAVED, _SERVED, 1)
    return name
