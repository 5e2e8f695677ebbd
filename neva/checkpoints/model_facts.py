"""The facts of a model: the prompt template and the frames that it was trained with.

They come from the configuration of a NeMo checkpoint, and stand in the file ``neva.yaml`` of a model's folder.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from connectors.errors import ConfigurationError
from neva.conversations import TEMPLATES
from neva.media_settings import ModelSettings, without_ignored
from neva.token_span import span_tokens_of

FACTS = "neva.yaml"

_FIRST_GENERATION = "2.0.0rc0"
log = logging.getLogger(__name__)


def read_model_settings(config: Mapping[str, Any]) -> ModelSettings:
    """Return the facts in a checkpoint's configuration, which each generation of NeVA keeps in another place.

    Raises:
        ConfigurationError: the configuration asks for frames that can't be shown.
    """
    mm_cfg, data = config["mm_cfg"], dict(config.get("data") or {})
    model_type = str((mm_cfg.get("llm") or {}).get("model_type") or mm_cfg.get("model_type") or "nvgpt")
    template = str(data.pop("conv_template", None) or model_type)
    template = template if template in TEMPLATES else model_type
    shown = {key: value for key, value in without_ignored(data).items() if key in ModelSettings.model_fields}
    try:
        return ModelSettings.model_validate(
            {
                **shown,
                "conv_template": template if template in TEMPLATES else "nvgpt",
                "model_type": model_type,
                "use_im_start_end": bool(mm_cfg.get("use_im_start_end", False)),
                "answer_key": "text" if _is_first_generation(config) else "pred_answer",
            }
        )
    except ValueError as error:
        raise ConfigurationError(str(error), path="data") from error


def is_reversed(config: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint saw its frames with their channels reversed, and say so in the log.

    NeVA's first generation did that with videos, and its evaluation wrote the answers under the key ``text``.
    """
    if not _is_first_generation(config):
        return False
    log.info(
        "The checkpoint is of NeMo %s, whose NeVA took blue for red in videos, and it is shown them so; an evaluation "
        "answers under %r. --no-legacy-bgr and +inference.answer_key say otherwise.",
        *(config["nemo_version"], "text"),
    )
    return True


def _is_first_generation(config: Mapping[str, Any]) -> bool:
    return config.get("nemo_version") == _FIRST_GENERATION and (config.get("data") or {}).get("media_type") == "video"


def write_facts(folder: Path, facts: ModelSettings) -> None:
    """Write a model's facts into its folder."""
    text = yaml.safe_dump(facts.model_dump(mode="json"), sort_keys=False)
    (folder / FACTS).write_text(text, encoding="utf-8")


def read_facts(folder: Path) -> ModelSettings:
    """Return the facts in a model's folder; the defaults where it has no ``neva.yaml``."""
    path = folder / FACTS
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return ModelSettings.model_validate(values or {})
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path} is wrong: {error}") from error


def image_token(tokenizer: Any, facts: ModelSettings) -> str:
    """Return the token that stands for each patch of a frame: NeVA's patch token, or else LLaVA's ``<image>``."""
    vocabulary = tokenizer.get_vocab()
    return next((name for name in (span_tokens_of(facts.model_type).patch, "<image>") if name in vocabulary), "<image>")
