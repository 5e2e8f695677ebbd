"""Models and settings that do not fit are refused before anything is loaded, with the key's path."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigurationError
from daemon.config.engine_settings import VllmSettings
from daemon.engines.model import bundled, checks

TEXT = {"num_attention_heads": 8, "num_key_value_heads": 2, "hidden_size": 512, "num_hidden_layers": 4}
CONFIG = {"text_config": TEXT, "vision_config": {"num_attention_heads": 6}}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    head = json.dumps({"__metadata__": {"format": "pt"}, "w": {"dtype": "F32", "shape": [1]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + b"\0" * 4)
    return folder


def settings(model: Path | str | None, **changes: Any) -> VllmSettings:
    return VllmSettings(model=None if model is None else str(model), **changes)


def test_a_folder_is_called_by_its_name(model: Path) -> None:
    assert checks.resolve_model(settings(model)) == (str(model), "my-model")


def test_a_name_on_the_hub_is_called_by_itself() -> None:
    assert checks.resolve_model(settings("who/what")) == ("who/what", "who/what")


def test_the_bundled_model_is_called_bundled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: Path) -> None:
    model.rename(tmp_path / "bundled")
    monkeypatch.setattr(bundled, "_folders", {})
    bundled.register_bundled_model(tmp_path / "bundled")

    assert checks.resolve_model(settings("bundled")) == (str(tmp_path / "bundled"), "bundled")


@pytest.mark.parametrize(
    ("gone", "says"),
    [
        ("config.json", r"engine\.model: .*holds no config\.json"),
        ("model.safetensors", r"engine\.model: .*holds no weights"),
    ],
)
def test_a_folder_without_a_model_is_refused(model: Path, gone: str, says: str) -> None:
    (model / gone).unlink()

    with pytest.raises(ConfigurationError, match=says):
        checks.check_structure(settings(model))


def test_no_model_and_no_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"engine\.model: no model is named"):
        checks.resolve_model(settings(None))
    with pytest.raises(ConfigurationError, match=r"engine\.model: there is no folder"):
        checks.resolve_model(settings(tmp_path / "nowhere"))


def test_a_configuration_that_is_not_json_is_refused(model: Path) -> None:
    (model / "config.json").write_text("{")

    with pytest.raises(ConfigurationError, match=r"engine\.model: its config\.json is not JSON"):
        checks.check_structure(settings(model))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tensor_parallel_size": 3}, r"tensor_parallel_size: the language model has 8 attention heads, which 3"),
        ({"tensor_parallel_size": 4}, r"tensor_parallel_size: the vision tower has 6 attention heads, which 4"),
        ({"pipeline_parallel_size": 5}, r"pipeline_parallel_size: the language model has 4 layers, too few for 5"),
    ],
)
def test_heads_and_layers_that_cannot_be_shared_are_refused(changes: dict[str, int], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        checks.check_parallel(settings("x", **changes), CONFIG)


def test_key_value_heads_are_shared_or_copied() -> None:
    config = {**TEXT, "num_attention_heads": 12, "num_key_value_heads": 4}

    checks.check_parallel(settings("x", tensor_parallel_size=2), config)
    checks.check_parallel(settings("x", tensor_parallel_size=12), config)
    with pytest.raises(ConfigurationError, match="4 key-value heads, which 6 devices can neither share nor copy"):
        checks.check_parallel(settings("x", tensor_parallel_size=6), config)


def test_a_tower_that_is_not_split_needs_no_heads_to_share() -> None:
    one = settings("x", tensor_parallel_size=4, args={"mm-encoder-tp-mode": "data"})

    checks.check_parallel(one, CONFIG)


def test_more_ranks_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "count_devices", lambda: 3)

    checks.check_devices(settings("x", tensor_parallel_size=3))
    with pytest.raises(ConfigurationError, match=r"tensor_parallel_size: .*takes 4 .*, there are 3"):
        checks.check_devices(settings("x", tensor_parallel_size=2, pipeline_parallel_size=2))


def test_the_structure_leaves_the_tower_to_the_class_that_builds_it(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "count_devices", lambda: 8)

    checks.check_structure(settings(model, tensor_parallel_size=4))
    with pytest.raises(ConfigurationError, match="the language model has 8 attention heads, which 3"):
        checks.check_structure(settings(model, tensor_parallel_size=3))


def test_a_tower_that_its_class_keeps_whole_needs_no_heads_to_share() -> None:
    one = settings("x", tensor_parallel_size=4)

    checks.check_parallel(one, CONFIG, tower_fits=lambda: True)
    with pytest.raises(ConfigurationError, match="the vision tower has 6 attention heads, which 4"):
        checks.check_parallel(one, CONFIG, tower_fits=lambda: False)


@pytest.mark.parametrize(
    ("changes", "args", "ranks"),
    [
        ({}, {}, 1),
        ({"tensor_parallel_size": 2, "data_parallel_size": 4}, {}, 8),
        ({"tensor_parallel_size": 2, "pipeline_parallel_size": 2, "data_parallel_size": 2}, {}, 8),
        ({"tensor_parallel_size": 2}, {"prefill-context-parallel-size": 2}, 4),
        ({"tensor_parallel_size": 16}, {"nnodes": 2, "node-rank": 0, "master-addr": "10.0.0.1"}, 8),
        ({"tensor_parallel_size": 8, "pipeline_parallel_size": 2}, {"nnodes": 2}, 8),
        ({"data_parallel_size": 16}, {"nnodes": 2, "distributed_executor_backend": "mp"}, 8),
        ({"data_parallel_size": 16}, {"data_parallel_size_local": 8, "data_parallel_address": "10.0.0.1"}, 8),
        ({"data_parallel_size": 16}, {"data_parallel_size_local": 0}, 0),  # a host that only hands requests on
        ({"tensor_parallel_size": 2, "data_parallel_size": 16}, {"data-parallel-rank": 3}, 2),
        ({"tensor_parallel_size": 8, "data_parallel_size": 2}, {"data-parallel-rank": 0, "nnodes": 4}, 4),
        ({"tensor_parallel_size": 16}, {"distributed-executor-backend": "ray"}, None),
        ({"tensor_parallel_size": 16}, {"distributed_executor_backend": "external_launcher"}, None),
        ({"tensor_parallel_size": 16}, {"distributed_executor_backend": "my.own.Executor"}, None),
        ({"data_parallel_size": 16}, {"data_parallel_backend": "ray"}, None),
    ],
)
def test_the_executor_says_how_many_ranks_are_here(
    changes: dict[str, int], args: dict[str, Any], ranks: int | None
) -> None:
    assert checks.local_ranks(settings("x", args=args, **changes)) == ranks


@pytest.mark.parametrize("args", [{"nnodes": 2}, {"distributed-executor-backend": "ray"}])
def test_ranks_on_other_hosts_need_no_devices_here(monkeypatch: pytest.MonkeyPatch, args: dict[str, Any]) -> None:
    monkeypatch.setattr(checks, "count_devices", lambda: 8)
    monkeypatch.setattr(checks, "runs_on_cpu", lambda: False)

    checks.check_devices(settings("x", tensor_parallel_size=8, pipeline_parallel_size=2, args=args))
    with pytest.raises(ConfigurationError, match=r"takes 16 GPUs on this host, there are 8; .*nnodes.*ray"):
        checks.check_devices(settings("x", tensor_parallel_size=8, pipeline_parallel_size=2))


def test_more_replicas_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "count_devices", lambda: 8)

    checks.check_devices(settings("x", data_parallel_size=8))
    with pytest.raises(ConfigurationError, match=r"engine\.data_parallel_size: .* data parallel takes 10 "):
        checks.check_devices(settings("x", tensor_parallel_size=2, data_parallel_size=5))
    with pytest.raises(ConfigurationError, match=r"engine\.tensor_parallel_size: .* data parallel takes 32 "):
        checks.check_devices(settings("x", tensor_parallel_size=16, data_parallel_size=2))


def test_gpus_are_counted_as_far_as_they_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "runs_on_cpu", lambda: False)

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    assert checks.count_devices() == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert checks.count_devices() == 0


def test_heads_that_the_cpu_has_no_kernels_for_are_refused() -> None:
    checks.check_cpu_model({"text_config": TEXT})
    with pytest.raises(ConfigurationError, match=r"engine\.model: its heads have 16 channels"):
        checks.check_cpu_model({"text_config": {**TEXT, "hidden_size": 128}})


@pytest.mark.parametrize(
    ("dtype", "on_cpu", "config", "resolved"),
    [
        ("auto", True, {"dtype": "float32"}, "float32"),
        ("auto", True, {"torch_dtype": "bfloat16"}, "auto"),
        ("auto", True, {"text_config": {"torch_dtype": "float32"}}, "float32"),
        ("auto", True, {}, "float32"),  # the weights say so
        ("auto", False, {"dtype": "float32"}, "auto"),
        ("bfloat16", True, {"dtype": "float32"}, "bfloat16"),
        ("auto", True, None, "auto"),
    ],
)
def test_float32_stays_float32_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, model: Path, dtype: str, on_cpu: bool, config: Any, resolved: str
) -> None:
    monkeypatch.setattr(checks, "runs_on_cpu", lambda: on_cpu)

    assert checks.resolve_dtype(settings(model, dtype=dtype), str(model), config) == resolved
