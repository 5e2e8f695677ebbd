"""The meaning of what ends vLLM's start: whether only a person can mend it, and what would.

A fault of the model's files, of the settings or of the memory there is comes again at every start: that is a
:class:`ConfigurationError`, with the remedy in its sentence. Whatever time may mend is :class:`EngineLost`.
"""

import re
from pathlib import Path

from connectors.errors import ConfigurationError, EngineLost, Fatal
from daemon.engines.library_errors import one_line
from daemon.engines.vllm.error_log import LoggedError

# of vLLM's kv_cache_utils: the numbers of "the KV cache holds no request of that length"
_KV_CACHE = re.compile(
    r"max seq len \((?P<wanted>\d+)\), \((?P<needed>[\d.]+ GiB) KV cache is needed.*?"
    r"memory \((?P<there>[\d.]+ GiB)\)(?:.*?maximum model length is (?P<fits>\d+))?",
    re.DOTALL,
)
_NO_KV_CACHE = re.compile(r"No available memory for the cache blocks|Cannot auto-fit max_model_len")
_MORE_ROOM = (
    "engine.args.gpu_memory_utilization and engine.args.kv_cache_memory_bytes give it more memory, "
    "on the CPU VLLM_CPU_KVCACHE_SPACE (GiB) does"
)
_OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|Cannot allocate memory|not enough memory: you tried")
_LESS_MEMORY = (
    "take a smaller or quantized model, share it between more devices (engine.tensor_parallel_size), or lower "
    "engine.args.max_num_seqs, engine.args.max_num_batched_tokens or engine.args.gpu_memory_utilization"
)
# memory that another process holds now: a person or time takes it away
_TAKEN_NOW = re.compile(r"(Free|Available) memory on (device|node)|Error in memory profiling")

# what reads the weights, by its place in a stack
_READS_WEIGHTS = re.compile(r'File "[^"]*/(model_loader/|safetensors/|torch/serialization\.py)|in load_weights\b')
_DAMAGED = frozenset({"SafetensorError", "UnpicklingError", "EOFError", "error", "BadZipFile", "ReadError"})
_DAMAGED_WORDS = re.compile(r"PytorchStreamReader|unexpected (EOF|end of)|Invalid magic number|not initialized from ch")

# what the same settings and files raise at every start
_LASTING = frozenset(
    {"ValueError", "TypeError", "KeyError", "IndexError", "AttributeError", "NotImplementedError", "AssertionError"}
    | {"ImportError", "ModuleNotFoundError", "ValidationError", "VLLMValidationError"}
)


def start_fault(logged: LoggedError | None, lost: EngineLost, *, oom_kills: int = 0) -> Fatal:
    """Return what ended the start: what one of vLLM's processes logged, else ``lost``, which says that it ended.

    ``oom_kills`` says how many processes of this control group the kernel killed meanwhile for want of memory.
    """
    if logged is None:
        return _out_of_memory("the kernel killed a process of the engine") if oom_kills else lost
    message, kind = one_line(logged.message), logged.kind.rpartition(".")[2]
    if found := _KV_CACHE.search(logged.message):
        return _kv_cache_too_small(found)
    if _NO_KV_CACHE.search(message):
        return ConfigurationError(f"no memory is left for the key-value cache: {_MORE_ROOM}; or {_LESS_MEMORY}")
    if kind in ("OutOfMemoryError", "MemoryError") or _OUT_OF_MEMORY.search(message):
        return _out_of_memory(message)
    said = f"{kind}: {message}" if message else kind
    if _TAKEN_NOW.search(message):
        return EngineLost(f"the engine did not come up: {said}")
    if _READS_WEIGHTS.search(logged.stack) and _is_damage(kind, message):
        return ConfigurationError(f"its weights can't be read ({said}): fetch its files again", path="engine.model")
    if kind in _LASTING:
        return ConfigurationError(f"the engine can't start so: {said}", path="engine")
    return EngineLost(f"the engine did not come up: {said}")


def _kv_cache_too_small(found: "re.Match[str]") -> ConfigurationError:
    fits = found["fits"]
    largest = f"; the largest that fits is {fits}: write that, or auto" if fits else ""
    message = (
        f"a request of {found['wanted']} tokens takes {found['needed']} of key-value cache, and {found['there']} are "
        f"there{largest}; {_MORE_ROOM}"
    )
    return ConfigurationError(message, path="engine.max_model_len")


def _out_of_memory(said: str) -> ConfigurationError:
    return ConfigurationError(f"the memory does not suffice to load it ({said}): {_LESS_MEMORY}", path="engine.model")


def _is_damage(kind: str, message: str) -> bool:
    return kind in _DAMAGED or bool(_DAMAGED_WORDS.search(message))


def oom_kills(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Return how many processes of this control group the kernel has killed for want of memory; 0 where none counts."""
    try:
        place = next(line[3:] for line in own.read_text().splitlines() if line.startswith("0::"))
        events = (root / place.lstrip("/") / "memory.events").read_text().splitlines()
    except (OSError, StopIteration):
        return 0
    return sum(int(line.split()[1]) for line in events if line.startswith("oom_kill "))
