"""What ended vLLM's start: 78 with the remedy where only a person can mend it, else 75."""

from pathlib import Path

import pytest

from connectors.errors import ConfigurationError, EngineLost
from daemon.engines.vllm.error_log import LoggedError
from daemon.engines.vllm.start_faults import oom_kills, start_fault

LOST = EngineLost("the engine did not come up: Engine core initialization failed. See root cause above.")
KV = (
    "To serve at least one request with the model's max seq len (131072), (16.0 GiB KV cache is needed, which is "
    "larger than the available KV cache memory (3.5 GiB). {}Try increasing `gpu_memory_utilization` (which also "
    "controls CPU memory on the CPU backend) or decreasing `max_model_len` when initializing the engine."
)
LOADER = '  File "/opt/vllm/model_executor/model_loader/weight_utils.py", line 1, in pt_weights_iterator\n'


def logged(
    kind: str, message: str, *, where: str = '  File "/opt/vllm/v1/engine/core.py", line 1, in f\n'
) -> LoggedError:
    return LoggedError(kind, message, f"Traceback (most recent call last):\n{where}{kind}: {message}")


def test_a_context_that_the_memory_cannot_hold_names_the_longest_that_fits() -> None:
    message = KV.format("Based on the available memory, the estimated maximum model length is 28672. ")

    fault = start_fault(logged("ValueError", message), LOST)

    assert isinstance(fault, ConfigurationError)
    assert fault.path == "engine.max_model_len"
    for part in ("131072 tokens", "16.0 GiB", "3.5 GiB", "the largest that fits is 28672: write that, or auto"):
        assert part in str(fault)


def test_where_no_length_fits_none_is_named() -> None:
    fault = start_fault(logged("ValueError", KV.format("")), LOST)

    assert isinstance(fault, ConfigurationError)
    assert "largest" not in str(fault)
    assert "gpu_memory_utilization" in str(fault)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("ValueError", "No available memory for the cache blocks. Try increasing `gpu_memory_utilization`"),
        ("ValueError", "Cannot auto-fit max_model_len: not enough GPU memory available to serve even a single token."),
        ("torch.OutOfMemoryError", "CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of 79"),
        ("torch.cuda.OutOfMemoryError", ""),
        ("MemoryError", ""),
        ("RuntimeError", "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
        ("OSError", "[Errno 12] Cannot allocate memory"),
    ],
)
def test_memory_that_does_not_suffice_is_a_persons_to_mend(kind: str, message: str) -> None:
    fault = start_fault(logged(kind, message), LOST)

    assert isinstance(fault, ConfigurationError)
    assert "engine.args." in str(fault)


def test_a_process_that_the_kernel_killed_for_memory_counts_as_that() -> None:
    assert isinstance(start_fault(None, LOST, oom_kills=1), ConfigurationError)
    assert start_fault(None, LOST) is LOST


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("safetensors_rust.SafetensorError", "Error while deserializing header: invalid header deserialization"),
        ("_pickle.UnpicklingError", "invalid load key, 'x'."),
        ("EOFError", "Ran out of input"),
        ("struct.error", "unpack requires a buffer of 8 bytes"),
        ("RuntimeError", "PytorchStreamReader failed reading zip archive: failed finding central directory"),
        ("ValueError", "Following weights were not initialized from checkpoint: {'lm_head.weight'}"),
    ],
)
def test_damaged_weights_are_fetched_again(kind: str, message: str) -> None:
    fault = start_fault(logged(kind, message, where=LOADER), LOST)

    assert isinstance(fault, ConfigurationError)
    assert fault.path == "engine.model"
    assert "fetch its files again" in str(fault)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("RuntimeError", "CUDA error: unspecified launch failure"),
        ("torch.distributed.DistNetworkError", "The client socket has timed out"),
        ("ValueError", "Free memory on device cuda:0 (10.0/79.1 GiB) on startup is less than desired GPU memory"),
        ("AssertionError", "Error in memory profiling. Initial free memory 1, current free memory 2."),
        ("OSError", "We couldn't connect to 'https://huggingface.co' to load the files"),
        ("EOFError", "Ran out of input"),  # of a queue between processes, not of the weights
    ],
)
def test_what_time_may_mend_is_tried_again(kind: str, message: str) -> None:
    fault = start_fault(logged(kind, message), LOST)

    assert isinstance(fault, EngineLost)
    assert message in str(fault)


def test_what_comes_again_at_every_start_is_a_configuration() -> None:
    fault = start_fault(logged("ValueError", "There is no quantization method for /opt/models/x/config.json"), LOST)

    assert str(fault) == "engine: the engine can't start so: ValueError: There is no quantization method for ..."


def test_the_kernels_kills_are_counted_for_this_control_group(tmp_path: Path) -> None:
    own, group = tmp_path / "cgroup", tmp_path / "system.slice" / "captiond.service"
    own.write_text("0::/system.slice/captiond.service\n")
    group.mkdir(parents=True)
    (group / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 2\noom_kill 2\noom_group_kill 0\n")

    assert oom_kills(tmp_path, own) == 2
    assert oom_kills(tmp_path / "nowhere", own) == 0
    assert oom_kills(tmp_path, tmp_path / "nothing") == 0
