"""A model's configuration and processor, read as vLLM reads them, without its weights."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from connectors.errors import ConfigurationError
from daemon.config.engine_settings import VllmSettings
from daemon.engines.library_errors import as_configuration_error
from daemon.engines.model import checks
from daemon.engines.model.frame_size import FrameSizes, max_frame_size, normalises_unalike
from daemon.engines.model.media_form import MediaForm, black_frames
from daemon.engines.model.token_planner import EncoderBudget, ModelTokenPlanner
from daemon.engines.model.video_resize import VideoResize
from daemon.engines.model.window_shapes import ExpectedWindows
from daemon.engines.vllm import library
from daemon.engines.vllm.adapters import check_adapter, check_given, given_adapter, own_adapter
from daemon.engines.vllm.answers import AnswerReader
from daemon.engines.vllm.args import check_types, checked_args, engine_args, media_limits, set_environment
from daemon.engines.vllm.budget import choose_budget
from daemon.engines.vllm.form import ELSE, form_of
from daemon.engines.vllm.placeholder import placeholder_of
from daemon.frame_look import FrameSize
from daemon.prompts.chat_template import ChatTemplate
from daemon.prompts.prompt import Modality, PromptEncoder


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
    own = own_adapter(model, config)
    arguments = own | given_adapter(settings, own)
    arguments |= engine_args(settings, model, dtype=checks.resolve_dtype(settings, model, config))
    check_types(settings.args, library.argument_class())
    with as_configuration_error("engine"):
        configuration = library.configuration_of(arguments)
        check_given(settings, model, configuration)
        planner, supported = _planner(settings, arguments, configuration.model_config, max_frames)
        limits = media_limits(planner.form.modality, max_frames, planner.max_frame_size)
        if planner.form.modality == "video" and library.sees_videos_as_images(configuration.model_config):
            limits["image"] = 1  # no window holds one: without room for it the class has no tower
        arguments["limit_mm_per_prompt"] = dict.fromkeys(supported, 0) | limits
        budget = choose_budget(settings, configuration.scheduler_config, planner, windows)
    arguments |= budget.arguments
    planner.encoder_budget = EncoderBudget(
        budget.batched_tokens, lambda: library.encoder_budget(library.configuration_of(arguments))
    )
    answers = AnswerReader(configuration, planner.encoder, planner.encoder.tokenizer)
    return LoadedModel(arguments, planner, answers, windows, budget.choices)


def _planner(
    settings: VllmSettings, arguments: dict[str, Any], model_config: Any, max_frames: int
) -> tuple[ModelTokenPlanner, Collection[str]]:
    """Return the planner of a model's tokens, if the model takes windows and its towers can be shared; and its media.

    What vLLM must be told of the model's processor joins the arguments.
    """
    if not model_config.is_multimodal_model:
        raise ConfigurationError("it takes neither images nor videos", path="engine.model")
    processor = library.processor_of(model_config)
    supported = processor.info.supported_mm_limits
    modality: Modality = "video" if "video" in supported else "image"
    if modality not in supported:
        raise ConfigurationError(f"it takes {', '.join(supported)}, but no images; {ELSE}", path="engine.model")
    ranks = settings.tensor_parallel_size
    found = model_config.hf_config.to_dict()
    checks.check_parallel(settings, found, tower_fits=lambda: library.tower_fits(arguments, ranks))
    check_adapter(model_config.hf_config, arguments, modality)
    hf_processor = processor.info.get_hf_processor()
    if modality == "video" and normalises_unalike(hf_processor):
        # on the device vLLM takes the image processor's figures for videos too (as of 0.33)
        arguments.setdefault("mm_device_do_normalize", False)
    form = form_of(processor, modality, max_frames)
    count = library.counter(processor, form.processor_arguments)
    planner = ModelTokenPlanner(
        _encoder(model_config, processor, form),
        form,
        count,
        max_model_len=model_config.max_model_len,
        max_frame_size=max_frame_size(hf_processor, modality),
        sizes=_sizes(processor, hf_processor, form, count),
    )
    return planner, supported


def _sizes(
    processor: Any, hf_processor: Any, form: MediaForm, count: Callable[[list[int], Any], tuple[int, int]]
) -> FrameSizes:
    """Return the rule for the sizes of windows' frames."""
    count_vision = library.vision_counter(processor, form.modality, count)

    def count_black(num_frames: int, size: FrameSize) -> int:
        black = black_frames(num_frames, size.height, size.width)
        return count_vision(form.items(num_frames), form.window_media(black))

    resize = VideoResize.of(hf_processor, form.modality, library.video_settings(processor))
    return FrameSizes(resize, form.least_frames, count_black)


def _encoder(model_config: Any, processor: Any, form: MediaForm) -> PromptEncoder:
    """Return the encoder of a model's prompts, with the template and placeholder that vLLM would use itself."""
    tokenizer = processor.info.get_tokenizer()

    def template(given: str | None = None) -> ChatTemplate | None:
        found = library.chat_template_of(model_config, tokenizer, given)
        return ChatTemplate(found[0], parts=found[1]) if found is not None else None

    return PromptEncoder(tokenizer, placeholder_of(model_config, processor, form), template(), read=template)
