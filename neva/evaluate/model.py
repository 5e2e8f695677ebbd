"""The model of an evaluation: the bundled one, a folder that vLLM serves, or a NeMo checkpoint, imported once."""

import json
import logging
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from connectors.errors import ConfigurationError
from daemon.engines.model.bundled import BUNDLED, bundled_model
from daemon.engines.model.checks import runs_on_cpu
from neva.checkpoints.archive import CONFIG
from neva.checkpoints.import_cache import imported
from neva.checkpoints.import_nemo import ImportRequest
from neva.checkpoints.model_facts import FACTS, read_facts
from neva.evaluate.settings import EvaluateSettings, QuantizationSettings
from neva.media_settings import ModelSettings, without_ignored
from neva.settings_file import configuration_error

log = logging.getLogger(__name__)

_BUNDLED_TEMPLATE = "v1"  # the one of NeVA's conversations that it was trained in


def find_model(settings: EvaluateSettings) -> tuple[str, ModelSettings]:
    """Return the model for ``engine.model``, and the model's facts.

    A ``.nemo``, or the folder of an extracted one, is imported into ``import_nemo.cache_dir`` the first time.

    Raises:
        ConfigurationError: there is no such model, or it can't be imported.
    """
    named = settings.neva_model_file
    if named == BUNDLED:
        facts = read_facts(bundled_model())
        return named, facts if (bundled_model() / FACTS).is_file() else _with(facts, conv_template=_BUNDLED_TEMPLATE)
    path = Path(named).expanduser()
    if path.is_file() or (path / CONFIG).is_file() or (path / "context").is_dir():  # a checkpoint of NeMo, or of NeMo 2
        folder = _imported(settings, path)
        return str(folder), read_facts(folder)
    if path.is_dir():
        if settings.base_model_file is not None:
            log.info("base_model_file is ignored: %s holds its language model.", named)
        return str(path.resolve()), read_facts(path)
    if named.startswith(("/", ".", "~")) or named.count("/") != 1:
        raise ConfigurationError(f"there is no {named}", path="neva_model_file")
    return named, ModelSettings.model_validate({})


def _imported(settings: EvaluateSettings, source: Path) -> Path:
    """Return the imported model of a checkpoint; a hash of everything that it is made of names its folder."""
    options = settings.import_nemo
    request = ImportRequest(
        source, Path(), settings.base_model_file, options.vision_tower, options.tokenizer, options.legacy_bgr
    )
    return imported(request, options.cache_dir)


def shown_media(settings: EvaluateSettings, facts: ModelSettings) -> ModelSettings:
    """Return the model's own facts with the ``data`` keys of the command line in their place.

    Raises:
        ConfigurationError: a key is unknown, or the model can't do what it asks for; the error names it.
    """
    wanted = without_ignored(dict(settings.data))
    unknown = sorted(wanted.keys() - ModelSettings.model_fields.keys())
    if unknown:
        raise ConfigurationError("unknown key", path=f"data.{unknown[0]}")
    media = _with(facts, **wanted, media_type=settings.inference.media_type)
    if facts.image_aspect_ratio == "pad" and media.image_aspect_ratio == "square":
        raise ConfigurationError(
            "the model's own processor pads; import the model again", path="data.image_aspect_ratio"
        )
    return media


def _with(facts: ModelSettings, **changes: Any) -> ModelSettings:
    values = {**facts.model_dump(), **changes}
    if values["media_type"] == "image":
        values["splice_single_frame"] = None  # it is a choice among the frames of a video
    try:
        return ModelSettings.model_validate(values)
    except ValidationError as error:
        raise configuration_error(error, section="data") from error


def vllm_quantization(wanted: QuantizationSettings, model: str) -> str | None:
    """Return vLLM's name for the quantisation; None where the model is served as it is.

    Raises:
        ConfigurationError: vLLM can't quantise so; the message gives the reason, and what to do.
    """
    if not wanted.enable or wanted.algorithm is None:
        return None
    path = "quantization.algorithm"
    if wanted.algorithm == "int8":
        raise ConfigurationError("int8 is none of NeVA's evaluation either: awq, fp8 and int8_sq are", path=path)
    if wanted.algorithm == "fp8":
        if runs_on_cpu():
            raise ConfigurationError("fp8 needs a GPU; the vLLM that is installed is for the CPU", path=path)
        return "fp8"
    config = Path(model) / "config.json"
    held = json.loads(config.read_text()).get("quantization_config") if config.is_file() else None
    method = (held or {}).get("quant_method")
    methods = {"awq": ("awq", "awq_marlin"), "int8_sq": ("compressed-tensors",)}[wanted.algorithm]
    if method in methods:
        return None  # vLLM finds it in the model's own configuration
    raise ConfigurationError(
        f"vLLM does not turn a model into {wanted.algorithm} while it loads: quantise it beforehand (llm-compressor, "
        f"ModelOpt) and name the quantised folder, or take fp8; this model is {method or 'not quantised'}",
        path=path,
    )
