"""The arguments of vLLM: the names it knows, those that are ours to name, and the values that captiond sets."""

import ast
import difflib
import os
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from connectors.errors import ConfigurationError
from connectors.validation import first_fault
from daemon.config.engine_settings import VllmSettings
from daemon.engines.model.checks import local_ranks
from daemon.frame_look import MaxFrameSize
from daemon.prompts.answer_form import AnswerForm
from daemon.prompts.prompt import Prompt, Stop

# vLLM's names for what the configuration names itself, and where
OURS = {
    "model": "engine.model",
    "tensor_parallel_size": "engine.tensor_parallel_size",
    "pipeline_parallel_size": "engine.pipeline_parallel_size",
    "data_parallel_size": "engine.data_parallel_size",
    "dtype": "engine.dtype",
    "quantization": "engine.quantization",
    "max_model_len": "engine.max_model_len",
    "limit_mm_per_prompt": "frames.num_frames (frames.max_frames with frames.fps)",
}

# Every window is new, so nothing is ever found in these caches, and the first of them is where engines hung
# (vllm-project/vllm#47958). Statistics come through our own logger. `engine.args` may say otherwise, but for the last.
DEFAULTS: dict[str, Any] = {
    "mm_processor_cache_gb": 0,
    "enable_prefix_caching": False,
    "trust_remote_code": False,
    "use_tqdm_on_load": False,
    "disable_log_stats": True,
}

# a loop that vLLM stops: of units of up to so many tokens, each so often in a row
REPETITION = {"max_pattern_size": 64, "min_pattern_size": 1, "min_count": 8}

_AS_MUCH_AS_FITS = -1  # vLLM's own number for the longest context that memory holds

# for the life of the program, where the environment does not say otherwise
ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",  # frames go as arrays; should a URL ever get in, it leads nowhere else
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork would copy our descriptors, and hide the reaper's mark
    # libraries warn their developers; and vLLM's workers end without unlinking a queue in shared memory, which the
    # resource tracker then does for them, as it is there for, and complains
    "PYTHONWARNINGS": "ignore",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}


@cache
def known_arguments() -> frozenset[str]:
    """Return the fields of vLLM's ``AsyncEngineArgs``, read from its source: importing vLLM takes seconds.

    Raises:
        ConfigurationError: vLLM is not installed.
    """
    spec = find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        message = "vLLM is not installed; captiond's extras cpu and cuda bring it"
        raise ConfigurationError(message, path="engine.kind")
    source = Path(spec.submodule_search_locations[0]) / "engine" / "arg_utils.py"
    return frozenset(
        field.target.id
        for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name in ("EngineArgs", "AsyncEngineArgs")
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    )


def checked_args(args: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``engine.args`` under vLLM's own spelling.

    Raises:
        ConfigurationError: naming the key that vLLM does not know, that is ours, or that is given twice.
    """
    known, checked = known_arguments(), dict[str, Any]()
    for given, value in args.items():
        name, path = given.lstrip("-").replace("-", "_"), f"engine.args.{given}"
        if name in OURS:
            raise ConfigurationError(f"say it with {OURS[name]}", path=path)
        if name == "disable_log_stats":
            raise ConfigurationError("captiond needs the engine's statistics to see that it makes progress", path=path)
        if name not in known:
            close = difflib.get_close_matches(name, sorted(known - OURS.keys()), n=3, cutoff=0.6)
            hint = f"; did you mean {' or '.join(close)}?" if close else ""
            raise ConfigurationError(f"vLLM has no such argument{hint}", path=path)
        if name in checked:
            raise ConfigurationError("given twice, with hyphens and with underscores", path=path)
        checked[name] = value
    return checked


def check_types(args: Mapping[str, Any], argument_class: type[Any]) -> None:
    """Refuse values of ``engine.args`` that do not have the type of vLLM's field.

    vLLM itself finds some of them late and without their name. ``argument_class`` is ``AsyncEngineArgs``; types that
    only vLLM understands are left to it.

    Raises:
        ConfigurationError: naming the key.
    """
    from pydantic import PydanticUserError, TypeAdapter, ValidationError

    types: dict[str, Any] = {field.name: field.type for field in fields(argument_class)}
    for given, value in args.items():
        kind: Any = types.get(given.lstrip("-").replace("-", "_"), Any)
        try:
            TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            fault = first_fault(error).message
            raise ConfigurationError(f"{value!r} does not fit: {fault}", path=f"engine.args.{given}") from error
        except (PydanticUserError, NameError):
            continue


def media_limits(modality: str, max_frames: int, max_frame_size: MaxFrameSize | None) -> dict[str, Any]:
    """Return vLLM's ``limit_mm_per_prompt``: one video of ``max_frames`` frames, or as many images.

    ``max_frame_size`` keeps vLLM from making room for frames larger than the sampler gives.
    """
    if modality == "image":
        return {"image": max_frames}
    size = {} if max_frame_size is None else {"width": max_frame_size.width, "height": max_frame_size.height}
    return {"video": {"count": 1, "num_frames": max_frames, **size}, "image": 0}


def engine_args(settings: VllmSettings, model: str, *, dtype: str) -> dict[str, Any]:
    """Return the arguments of ``AsyncEngineArgs``, but for the limits, which only the model's processor knows.

    ``model`` is a folder or a name, ``dtype`` the resolved precision.
    """
    return {
        **DEFAULTS,
        **checked_args(settings.args),
        "model": model,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "pipeline_parallel_size": settings.pipeline_parallel_size,
        "data_parallel_size": settings.data_parallel_size,
        "dtype": dtype,
        "quantization": settings.quantization,
        "max_model_len": _AS_MUCH_AS_FITS if settings.max_model_len == "auto" else settings.max_model_len,
    }


def sampling_arguments(prompt: Prompt, stop: Stop) -> dict[str, Any]:
    """Return the arguments of ``SamplingParams`` for a prompt whose answer ends at ``stop``."""
    return {
        "max_tokens": prompt.max_tokens,
        "min_tokens": prompt.min_tokens,
        "temperature": prompt.temperature,
        "top_p": prompt.top_p,
        "top_k": prompt.top_k,
        "min_p": prompt.min_p,
        "repetition_penalty": prompt.repetition_penalty,
        "presence_penalty": prompt.presence_penalty,
        "frequency_penalty": prompt.frequency_penalty,
        "ignore_eos": prompt.ignore_eos,
        "stop": list(stop.texts),
        "stop_token_ids": list(stop.token_ids),
        "seed": prompt.seed,
        "logprobs": prompt.logprobs,
    } | ({"repetition_detection": REPETITION} if prompt.stop_loops else {})


def structured_arguments(form: AnswerForm) -> dict[str, Any]:
    """Return the arguments of vLLM's ``StructuredOutputsParams`` for a form.

    A model that may write any whitespace between two values writes nothing else, if it is a weak one.
    """
    match form.kind:
        case "schema":
            return {"json": form.written, "disable_any_whitespace": True}
        case "choice":
            return {"choice": form.value}
        case "regex":
            return {"regex": form.written}


def set_environment(*, local_model: bool, debug: bool = False) -> None:
    """Set what vLLM and its libraries read from the environment, before they are imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if debug:
        os.environ["VLLM_LOGGING_LEVEL"] = "DEBUG"
    if local_model:  # nothing is looked up anywhere for a model that is a folder
        os.environ.setdefault("HF_HUB_OFFLINE", "1")


def cpu_environment(settings: VllmSettings, cores: list[int]) -> dict[str, str]:
    """Return what an engine on the CPU needs in its environment: room for keys and values, and each rank's cores.

    vLLM binds one rank to each NUMA node by itself; ranks that share a node need their cores named: those of the first
    replica, then those of the next. The room in the environment goes over the one in the arguments, so it is only given
    where those name none.
    """
    room = checked_args(settings.args).get("kv_cache_memory_bytes")
    wanted = {} if room is not None else {"VLLM_CPU_KVCACHE_SPACE": "1"}
    ranks = local_ranks(settings)
    if ranks is not None and 1 < ranks <= len(cores):
        share = len(cores) // ranks
        groups = [cores[rank * share : (rank + 1) * share] for rank in range(ranks)]
        wanted["VLLM_CPU_OMP_THREADS_BIND"] = "|".join(",".join(map(str, group)) for group in groups)
    return {name: value for name, value in wanted.items() if name not in os.environ}
