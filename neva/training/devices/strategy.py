"""The choice of how devices share a model, and the refusal of every way that does not work here.

With ``ddp`` each device holds the whole model and a share of the batch; with ``fsdp2`` each holds a share of both.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

from connectors.errors import ConfigurationError

Strategy = Literal["ddp", "fsdp2"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)

_KEY = "trainer.strategy"
_WRITE = "write trainer.strategy=fsdp2 instead, and launch without it"
# Accelerate's launcher says by these variables what its configuration holds.
_LAUNCHED_WITH = {
    "ACCELERATE_USE_DEEPSPEED": f"DeepSpeed is not offered: {_WRITE}",
    "ACCELERATE_USE_MEGATRON_LM": f"Megatron-LM is not offered: {_WRITE}",
}
_FSDP, _FSDP_VERSION = "ACCELERATE_USE_FSDP", "FSDP_VERSION"
_FSDP_OPTIONS = {
    "FSDP_OFFLOAD_PARAMS": "FSDP's offloading to the CPU is not offered: more devices hold less each",
    "FSDP_ACTIVATION_CHECKPOINTING": "write model.activations_checkpoint_granularity=full, and launch without it",
}
_PARALLELISM = "ACCELERATE_USE_PARALLELISM_CONFIG"
_DIMENSIONS = {
    "TP": "tensor parallelism",
    "CP": "context parallelism",
    "SP": "sequence parallelism",
    "DP_REPLICATE": "replicas of sharded models",
}
_TYPES = ("NO", "MULTI_CPU", "MULTI_GPU")


def choose_strategy(asked: Strategy | None, environment: Mapping[str, str]) -> Strategy:
    """Return how devices share the model: as ``asked``, else as Accelerate was launched, else ``ddp``.

    Raises:
        ConfigurationError: Accelerate was launched with what is not offered, or with something else than asked.
    """
    for reason in _refusals(environment):
        raise ConfigurationError(reason, path=_KEY)
    if not _is_on(environment, _FSDP):
        return asked or "ddp"
    if asked == "ddp":
        raise ConfigurationError("it is ddp, but Accelerate was launched with FSDP: say one of the two", path=_KEY)
    return "fsdp2"


def _refusals(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield why what Accelerate was launched with is not offered."""
    yield from (reason for name, reason in _LAUNCHED_WITH.items() if _is_on(environment, name))
    if _is_on(environment, _PARALLELISM):
        for prefix, dimension in _DIMENSIONS.items():
            if int(environment.get(f"PARALLELISM_CONFIG_{prefix}_SIZE", "1")) > 1:
                yield f"{dimension} is not offered: {_WRITE}"
    if _is_on(environment, _FSDP):
        if environment.get(_FSDP_VERSION, "1") != "2":
            yield "FSDP 1 is not offered: launch with fsdp_version 2"
        yield from (reason for name, reason in _FSDP_OPTIONS.items() if _is_on(environment, name))


def _is_on(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "").lower() in ("1", "true", "yes")


def launch_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to set before Accelerate starts, so that it leaves the sharding to this package.

    Accelerate shards on GPUs alone and by units of its own, and transformers would load no weights on other ranks than
    the first.
    """
    return {_FSDP: "false"} if _FSDP in environment else {}


def check_devices(distributed_type: Any, processes: int, launched: int) -> None:
    """Refuse the kinds of devices that nobody has trained on, and processes that do not know of each other.

    Raises:
        ConfigurationError: Accelerate found such devices, or other than the ``launched`` processes.
    """
    name = str(getattr(distributed_type, "value", distributed_type))
    if name not in _TYPES:
        raise ConfigurationError(f"{name} is not offered: training runs on CPUs and on CUDA's GPUs", path=_KEY)
    if processes != launched:
        raise ConfigurationError(f"{launched} processes were launched, and Accelerate knows of {processes}", path=_KEY)


def world_size(devices: int | None, nodes: int | None, environment: Mapping[str, str]) -> int:
    """Return the number of processes: the launcher's, else ``devices`` times ``nodes``, else 1."""
    launched = environment.get("WORLD_SIZE")
    return int(launched) if launched else (devices or 1) * (nodes or 1)
