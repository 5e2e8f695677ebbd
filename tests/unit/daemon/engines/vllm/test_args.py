"""Settings of vLLM: names it knows, names that are ours, and what captiond sets by itself."""

import os

import pytest

from connectors.errors import ConfigurationError
from daemon.config.engine_settings import VllmSettings
from daemon.engines.vllm.args import (
    checked_args,
    cpu_environment,
    engine_args,
    known_arguments,
    media_limits,
    set_environment,
)
from daemon.frame_look import MaxFrameSize


def test_vllms_names_are_read_from_its_source() -> None:
    known = known_arguments()

    assert {"max_num_seqs", "enforce_eager", "mm_processor_kwargs", "enable_log_requests"} <= known
    assert "create_engine_config" not in known


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(120)
def test_vllms_names_are_its_own_fields() -> None:
    from dataclasses import fields

    from daemon.engines.vllm.library import argument_class

    assert known_arguments() == {field.name for field in fields(argument_class())}


def test_hyphens_and_underscores_are_the_same() -> None:
    args = {"max-num-seqs": 4, "enforce_eager": True, "--mm-processor-kwargs": {"size": 1}}

    assert checked_args(args) == {"max_num_seqs": 4, "enforce_eager": True, "mm_processor_kwargs": {"size": 1}}


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"max_num_seq": 4}, r"engine\.args\.max_num_seq: vLLM has no such argument; did you mean max_num_seqs"),
        ({"zzz": 4}, r"engine\.args\.zzz: vLLM has no such argument$"),
        ({"dtype": "half"}, r"engine\.args\.dtype: say it with engine\.dtype"),
        ({"tensor-parallel-size": 2}, r"engine\.args\.tensor-parallel-size: say it with engine\.tensor_parallel_size"),
        ({"model": "x"}, r"engine\.args\.model: say it with engine\.model"),
        ({"limit-mm-per-prompt": {}}, r"say it with frames\.num_frames"),
        ({"disable_log_stats": True}, r"engine\.args\.disable_log_stats: captiond needs"),
        ({"max-num-seqs": 4, "max_num_seqs": 4}, r"engine\.args\.max_num_seqs: given twice"),
    ],
)
def test_wrong_names_are_refused_with_their_path(args: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        checked_args(args)


def test_caches_are_off_unless_they_are_asked_for() -> None:
    usual = engine_args(VllmSettings(), "m", dtype="float32")
    asked = engine_args(VllmSettings(args={"enable-prefix-caching": True}), "m", dtype="auto")

    assert (usual["mm_processor_cache_gb"], usual["enable_prefix_caching"]) == (0, False)
    assert usual["trust_remote_code"] is False
    assert asked["enable_prefix_caching"] is True


def test_the_limits_are_the_windows_own() -> None:
    video = {"count": 1, "num_frames": 8}

    assert media_limits("image", 8, None) == {"image": 8}
    assert media_limits("video", 8, None) == {"video": video, "image": 0}
    sized = {**video, "width": 640, "height": 480}
    assert media_limits("video", 8, MaxFrameSize(640, 480)) == {"video": sized, "image": 0}


def test_ranks_on_the_cpu_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_KVCACHE_SPACE"):
        monkeypatch.delenv(name, raising=False)

    alone = cpu_environment(VllmSettings(), [0, 1, 2, 3, 4])
    two = cpu_environment(VllmSettings(tensor_parallel_size=2), [0, 1, 2, 3, 4])

    assert alone == {"VLLM_CPU_KVCACHE_SPACE": "1"}
    assert two == {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "0,1|2,3"}


@pytest.mark.parametrize(
    ("settings", "cores", "bound"),
    [
        (VllmSettings(data_parallel_size=2), [0, 1], "0|1"),
        (VllmSettings(data_parallel_size=2, tensor_parallel_size=2), list(range(8)), "0,1|2,3|4,5|6,7"),
        (VllmSettings(tensor_parallel_size=4, args={"nnodes": 2}), list(range(4)), "0,1|2,3"),
        (VllmSettings(tensor_parallel_size=2, args={"distributed_executor_backend": "ray"}), [0, 1], None),
    ],
)
def test_the_ranks_of_all_replicas_on_this_host_have_cores_of_their_own(
    monkeypatch: pytest.MonkeyPatch, settings: VllmSettings, cores: list[int], bound: str | None
) -> None:
    monkeypatch.delenv("VLLM_CPU_OMP_THREADS_BIND", raising=False)

    assert cpu_environment(settings, cores).get("VLLM_CPU_OMP_THREADS_BIND") == bound


def test_the_users_own_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "4")
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "ERROR")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    set_environment(local_model=True)

    assert cpu_environment(VllmSettings(), [0, 1]) == {}
    assert os.environ["VLLM_LOGGING_LEVEL"] == "ERROR"
    assert os.environ["HF_HUB_OFFLINE"] == "1"
