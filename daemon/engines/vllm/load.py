"""A model's configuration and processor, read as vLLM reads them, without its weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connectors.errors import ConfigurationError
from daemon.config.engine_settings import VllmSettings
from daemon.engines.library_errors import as_configuration_error
from daemon.engines.model import checks
from daemon.engines.model.frame_size import FrameSizes, least_frames, max_frame_size
from daemon.engines.model.media_form import MediaForm, black_frames
from daemon.engines.model.token_planner import EncoderBudget, ModelTokenPlanner
from daemon.engines.model.video_resize import VideoResize
from daemon.engines.model.window_shapes import ExpectedWindows
from daemon.engines.vllm import library
from daemon.engines.vllm.answers import AnswerReader
from daemon.engines.vllm.args import check_types, checked_args, engine_args, media_limits, set_environment
from daemon.engines.vllm.budget import choose_budget
from daemon.frame_look import FrameSize
from daemon.prompts.chat_template import ChatTemplate
from daemon.prompts.prompt import Modality, Placeholder, PromptEncoder


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model without its weights: its token planner, the reader of its answers, and what makes its engine.

    ``windows`` are those to warm up with, and ``choices`` sentences about what was chosen where nothing was written.
    """

    arguments: Mapping[str, Any]
    planner: ModelTokenPlanner
    answers: AnswerReader
    windows: ExpectedWindows
    choices: tuple[str, ...] = ()


def load_model(
    settings: VllmSettings,
    max_frames: int,
    *,
    windows: ExpectedWindows | None = None,
    debug: bool = False,
    weights: bool = True,
) -> LoadedModel:
    """Read a model's configuration and processor, and check that they fit the settings and the machine.

    ``windows`` are those that will come, of up to ``max_frames`` frames.

    Raises:
        ConfigurationError: naming the key that is wrong.
    """
    windows = windows or ExpectedWindows((max_frames,), max_frames)
    model, _ = checks.resolve_model(settings, weights=weights)
    checked_args(settings.args)
    checks.check_structure(settings, weights=weights)
    config = checks.local_config(model)
    set_environment(local_model=config is not None, debug=debug)
    arguments = engine_args(settings, model, dtype=checks.resolve_dtype(settings, model, config))
    check_types(settings.args, library.argument_class())
    with as_configuration_error("engine"):
        configuration = library.configuration_of(arguments)
        planner = _planner(settings, arguments, configuration.model_config)
        limits = media_limits(planner.form.modality, max_frames, planner.max_frame_size)
        arguments["limit_mm_per_prompt"] = limits
        budget = choose_budget(settings, configuration.scheduler_config, planner, windows)
    arguments |= budget.arguments
    planner.encoder_budget = EncoderBudget(
        budget.batched_tokens, lambda: library.encoder_budget(library.configuration_of(arguments))
    )
    answers = AnswerReader(configuration, planner.encoder, planner.encoder.tokenizer)
    return LoadedModel(arguments, planner, answers, windows, budget.choices)


def _planner(settings: VllmSettings, arguments: dict[str, Any], model_config: Any) -> ModelTokenPlanner:
    """Return the planner of a model's tokens, if the model takes videos or images and its towers can be shared."""
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
    hf_processor = processor.info.get_hf_processor()
    form = MediaForm(modality, least_frames(hf_processor, modality))
    return ModelTokenPlanner(
        _encoder(model_config, processor, modality),
        form,
        library.counter(processor),
        max_model_len=model_config.max_model_len,
        max_frame_size=max_frame_size(hf_processor, modality),
        sizes=_sizes(processor, hf_processor, form),
    )


def _sizes(processor: Any, hf_processor: Any, form: MediaForm) -> FrameSizes:
    """Return the rule for the sizes of windows' frames."""
    counted = library.vision_counter(processor, form.modality)

    def count(num_frames: int, size: FrameSize) -> int:
        black = black_frames(num_frames, size.height, size.width)
        return counted(form.items(num_frames), form.window_media(black))

    resize = VideoResize.of(hf_processor, form.modality, library.video_settings(processor))
    return FrameSizes(resize, form.least_frames, count)


def _encoder(model_config: Any, processor: Any, modality: Modality) -> PromptEncoder:
    """Return the encoder of a model's prompts, with the template and placeholder that vLLM would use itself."""
    tokenizer = processor.info.get_tokenizer()

    def template(given: str | None = None) -> ChatTemplate | None:
        found = library.chat_template_of(model_config, tokenizer, given)
        return ChatTemplate(found[0], parts=found[1]) if found is not None else None

    return PromptEncoder(tokenizer, _placeholder(model_config, tokenizer, modality), template(), read=template)


def _placeholder(model_config: Any, tokenizer: Any, modality: Modality) -> Placeholder:
    """Return what stands for a video or an image: the token of the model's configuration, in its class's wording.

    A checkpoint may give the class's token another name in its vocabulary; then the name in the vocabulary counts.
    """
    found = [getattr(model_config.hf_config, f"{modality}_token_{word}", None) for word in ("id", "index")]
    token_id = next((value for value in found if isinstance(value, int)), None)
    text = library.placeholder_text(model_config, modality, 1)
    ids = tokenizer.encode(text, add_special_tokens=False) if text else []
    if token_id is None and len(ids) == 1:
        token_id = ids[0]
    if token_id is None:
        raise ConfigurationError(f"its configuration names no {modality} token", path="engine.model")
    if not text or token_id not in ids:
        text = str(tokenizer.convert_ids_to_tokens(token_id))
    return Placeholder(modality, text, token_id)
