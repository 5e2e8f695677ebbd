"""A model's configuration and processor, read as vLLM reads them, without its weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connectors.errors import ConfigurationError
from daemon.config.engine_settings import VllmSettings
from daemon.engines.library_errors import as_configuration_error
from daemon.engines.model import checks
from daemon.engines.model.frame_size import max_frame_size, normalises_unalike
from daemon.engines.model.media_form import MediaForm
from daemon.engines.model.token_planner import ModelTokenPlanner
from daemon.engines.vllm import library
from daemon.engines.vllm.adapters import check_adapter, own_adapter
from daemon.engines.vllm.args import check_types, checked_args, engine_args, media_limits, set_environment
from daemon.engines.vllm.form import form_of
from daemon.engines.vllm.placeholder import placeholder_of
from daemon.prompts.prompt import ChatTemplate, Modality, PromptEncoder


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model without its weights: its token planner, and the arguments that make its engine."""

    arguments: Mapping[str, Any]
    planner: ModelTokenPlanner


def load_model(settings: VllmSettings, max_frames: int, *, debug: bool = False, weights: bool = True) -> LoadedModel:
    """Read a model's configuration and processor, and check that they fit the settings and the machine.

    Raises:
        ConfigurationError: naming the key that is wrong.
    """
    model, _ = checks.resolve_model(settings, weights=weights)
    checked_args(settings.args)
    checks.check_structure(settings, weights=weights)
    config = checks.local_config(model)
    set_environment(local_model=config is not None, debug=debug)
    arguments = own_adapter(model, config) | engine_args(
        settings, model, dtype=checks.resolve_dtype(settings, model, config)
    )
    check_types(settings.args, library.argument_class())
    with as_configuration_error("engine"):
        model_config = library.argument_class()(**arguments).create_engine_config().model_config
        if not model_config.is_multimodal_model:
            raise ConfigurationError("it takes neither images nor videos", path="engine.model")
        processor = library.processor_of(model_config)
        supported = processor.info.supported_mm_limits
        modality: Modality = "video" if "video" in supported else "image"
        if modality not in supported:
            raise ConfigurationError(f"it takes {', '.join(supported)}, but no images", path="engine.model")
        ranks = settings.tensor_parallel_size
        found = model_config.hf_config.to_dict()
        checks.check_parallel(settings, found, tower_fits=lambda: library.tower_fits(arguments, ranks))
        check_adapter(model_config.hf_config, arguments, modality)
        hf_processor = processor.info.get_hf_processor()
        max_size = max_frame_size(hf_processor, modality)
        form = form_of(processor, modality, max_frames)
        planner = ModelTokenPlanner(
            _encoder(model_config, processor, form),
            form,
            library.counter(processor, form.processor_arguments),
            max_model_len=model_config.max_model_len,
            max_frame_size=max_size,
        )
    if modality == "video" and normalises_unalike(hf_processor):
        # on the device vLLM takes the image processor's figures for videos too (as of 0.33)
        arguments.setdefault("mm_device_do_normalize", False)
    limits = dict.fromkeys(supported, 0) | media_limits(modality, max_frames, max_size)
    if modality == "video" and library.sees_videos_as_images(model_config):
        limits["image"] = 1  # no window holds one: without room for it the class has no tower
    return LoadedModel({**arguments, "limit_mm_per_prompt": limits}, planner)


def _encoder(model_config: Any, processor: Any, form: MediaForm) -> PromptEncoder:
    """Return the encoder of a model's prompts, with the template and placeholder that vLLM would use itself."""
    tokenizer = processor.info.get_tokenizer()
    found = library.chat_template_of(model_config, tokenizer)
    template = ChatTemplate(found[0], parts=found[1]) if found is not None else None
    return PromptEncoder(tokenizer, placeholder_of(model_config, processor, form), template)
