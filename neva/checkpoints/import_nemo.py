"""Import of a Video NeVA from NeMo: a checkpoint becomes the folder that vLLM serves.

1. ``model_config.yaml`` describes the model. A model that can't be imported is refused by the name of the setting,
   before any weights are read.
2. The checkpoint's weights are found and its ranks joined; those of a distributed one are read one at a time. The first
   stage of NeVA leaves a projector alone, which needs a base model beside it, and a frozen vision tower is never in a
   checkpoint.
3. Tokenizer, tower and base model come from where the user says, or else from where the checkpoint says.
4. The folder is written under another name and renamed into place.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from connectors.errors import ConfigurationError
from neva.checkpoints.archive import NemoArchive, open_nemo
from neva.checkpoints.base_model import Vocabulary, find_base_model, read_language
from neva.checkpoints.distributed.checkpoint import is_distributed
from neva.checkpoints.language_model import read_text_model
from neva.checkpoints.lora import lora_settings, with_adapters
from neva.checkpoints.model_folder.facts import image_token, is_reversed, read_model_settings
from neva.checkpoints.model_folder.llava import llava_config, projector_state, write_llava_files
from neva.checkpoints.model_folder.new_folder import new_folder
from neva.checkpoints.model_folder.weight_files import write_tensors
from neva.checkpoints.nemo2 import checkpoint_config
from neva.checkpoints.tokenizer import add_media_token, load_tokenizer
from neva.checkpoints.vision_tower import read_tower, reverse_channels
from neva.checkpoints.weights import check_layout, read_weights
from neva.media_settings import ModelSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """The checkpoint to import, and the folder to make of it.

    ``base_model``, ``vision_tower`` and ``tokenizer`` win over those that the checkpoint names. ``legacy_bgr`` is for
    checkpoints of NeVA's first generation (NeMo before pull request 9245), which saw frames with their channels
    reversed: the tower's channels are reversed instead, which gives the same numbers. Where it is None the checkpoint's
    own version of NeMo says it.
    """

    source: Path
    out: Path
    base_model: str | None = None
    vision_tower: str | None = None
    tokenizer: str | None = None
    legacy_bgr: bool | None = None


def import_nemo(request: ImportRequest) -> Path:
    """Write the model folder ``request.out`` and return it.

    Raises:
        ConfigurationError: the checkpoint can't be imported; the message says why, and what to do.
    """
    with open_nemo(request.source) as archive:
        _refuse_a_full_folder(request.out)
        with new_folder(request.out) as folder:
            count = _write_model(request, archive, folder)
    log.info("%s holds the model: %d tensors.", request.out, count)
    return request.out


def _write_model(request: ImportRequest, archive: NemoArchive, folder: Path) -> int:
    """Write the model into ``folder``; return the number of its tensors."""
    config = _checked_config(archive)
    mm_cfg: Mapping[str, Any] = config["mm_cfg"]
    facts = read_model_settings(config)
    tensors = read_weights(archive, read_text_model(config).shape)
    projector, activation = projector_state(tensors, str(mm_cfg.get("mm_mlp_adapter_type", "linear")))
    base = find_base_model(request.base_model, config)
    vocabulary = _vocabulary(request, archive, config, base, facts)
    language = read_language(config, tensors, base, vocabulary)
    encoder: Mapping[str, Any] = mm_cfg.get("vision_encoder") or {}
    tower = read_tower(request.vision_tower or str(encoder.get("from_pretrained") or ""), tensors)
    seen, pixels = tower.state, tower.pixels
    if is_reversed(config) if request.legacy_bgr is None else request.legacy_bgr:
        seen, pixels = reverse_channels(seen), pixels.reversed()
    token = image_token(vocabulary.tokenizer, facts)
    llava = llava_config(
        language.config,
        tower.config,
        image_token_id=vocabulary.tokenizer.convert_tokens_to_ids(token),
        activation=activation,
        feature_layer=int(encoder.get("vision_select_layer", -2)),
        every_feature=encoder.get("vision_select_feature", "patch") == "cls_patch"
        or encoder.get("class_token_length", 1) == 0,
    )
    _check_fit(llava, projector, encoder)
    words = with_adapters(language.state, tensors, config)
    write_llava_files(folder, llava, vocabulary.tokenizer, token, pixels, facts)
    return write_tensors(folder, chain(words, projector.items(), seen.items()))


def _checked_config(archive: NemoArchive) -> dict[str, Any]:
    """Return the configuration of a checkpoint that can be imported, as far as it and the names of the files tell."""
    config = checkpoint_config(archive)
    if not config.get("mm_cfg"):
        raise ConfigurationError(f"{archive.path} is no NeVA: its configuration has no part that sees (mm_cfg).")
    refuse_by_config(config)
    if config.get("virtual_pipeline_model_parallel_size") and not is_distributed(archive):
        raise ConfigurationError(
            "virtual pipelines are imported from distributed checkpoints alone: save the model without, or as one",
            path="virtual_pipeline_model_parallel_size",
        )
    check_layout(archive)
    return config


def refuse_by_config(config: Mapping[str, Any]) -> None:
    """Refuse a model whose configuration alone shows that it can't be imported, whatever its layout."""
    mm_cfg = config["mm_cfg"]
    tower = mm_cfg.get("vision_encoder") or {}
    if mm_cfg.get("use_lita"):
        raise ConfigurationError("LITA's time tokens are not imported: plain Video NeVA is", path="mm_cfg.use_lita")
    if not tower.get("from_hf", True):
        raise ConfigurationError(
            "a tower of NeMo's own CLIP is not imported: towers of Hugging Face are",
            path="mm_cfg.vision_encoder.from_hf",
        )
    lora_settings(config)


def _refuse_a_full_folder(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigurationError(f"{out} is there already and is not empty.")


def _vocabulary(
    request: ImportRequest, archive: NemoArchive, config: Mapping[str, Any], base: Path | None, facts: ModelSettings
) -> Vocabulary:
    """Return the tokenizer, with a token for frames added where it has none."""
    folder = base if base is not None and (base / "config.json").is_file() else None
    tokenizer = load_tokenizer(archive, config, request.tokenizer, folder)
    if image_token(tokenizer, facts) in tokenizer.get_vocab():
        return Vocabulary(tokenizer, 0)
    return Vocabulary(tokenizer, add_media_token(tokenizer))


def _check_fit(llava: Any, projector: Mapping[str, Any], encoder: Mapping[str, Any]) -> None:
    """Refuse a tower or a language model that the projector was not trained between."""
    first, last = projector["multi_modal_projector.linear_1.weight"], projector["multi_modal_projector.linear_2.weight"]
    if first.shape[1] != llava.vision_config.hidden_size:
        raise ConfigurationError(
            f"the projector takes {first.shape[1]} channels, the tower gives {llava.vision_config.hidden_size}",
            path="vision_tower",
        )
    if last.shape[0] != llava.text_config.hidden_size:
        raise ConfigurationError(
            f"the projector gives {last.shape[0]} channels, the language model takes {llava.text_config.hidden_size}",
            path="base_model_file",
        )
    crop_px = encoder.get("crop_size")
    if crop_px and list(crop_px) != [llava.vision_config.image_size] * 2:
        raise ConfigurationError(
            f"the checkpoint's frames are {list(crop_px)} px, the tower's {llava.vision_config.image_size} px",
            path="mm_cfg.vision_encoder.crop_size",
        )
