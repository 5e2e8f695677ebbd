"""Export of a trained model to a folder that both transformers and vLLM load."""

import shutil
from pathlib import Path

from connectors.errors import ConfigurationError
from neva.checkpoints.llava import IDENTITY, write_llava_files
from neva.checkpoints.model_facts import FACTS
from neva.checkpoints.new_folder import new_folder
from neva.checkpoints.weight_files import write_weights
from neva.media_settings import ModelSettings
from neva.training.parts import Llava

# transformers 5 saves a CLIP tower without the inner name that vLLM looks for; transformers reads either form.
_SAVED, _SERVED = "vision_tower.", "vision_tower.vision_model."


def check_export(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier export, with a :class:`ConfigurationError`."""
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / FACTS).is_file())):
        raise ConfigurationError(f"{folder} holds something else than a model", path="exp_manager.export_dir")


def export_llava(folder: Path, llava: Llava, facts: ModelSettings, *, main: bool = True) -> None:
    """Write a model and its facts into ``folder``, in the place of an earlier export.

    Weights keep the precision that they have. The folder is written under another name and renamed into place. All
    processes that share a model call this; the ``main`` one writes, the others give it their shares.
    """
    weights = {served_name(name): tensor for name, tensor in llava.model.state_dict().items()}
    if llava.model.config.text_config.tie_word_embeddings:
        del weights["language_model.lm_head.weight"]
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
