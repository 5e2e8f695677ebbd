"""A folder with a LoRA adapter: what it says is read without a model library, and a folder without one is refused."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigurationError
from daemon.config.engine_settings import VllmSettings
from daemon.engines.build import check_engine
from daemon.engines.model.bundled import register_bundled_model
from daemon.engines.model.checks import resolve_model
from daemon.engines.model.lora_adapter import read_adapter
from neva.registration import BUNDLED_FOLDER

NAME = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def write(folder: Path, **said: Any) -> Path:
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "base_model_name_or_path": "/models/base", **said}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    head = json.dumps({NAME: {"dtype": "F32", "shape": [4, 2], "data_offsets": [0, 32]}}).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(32))
    return folder


def test_rank_base_and_sizes_are_read(tmp_path: Path) -> None:
    adapter = read_adapter(write(tmp_path / "cats", rank_pattern={"k_proj": 24}))

    assert (adapter.rank, adapter.base, adapter.shapes) == (24, "/models/base", {NAME: (4, 2)})


def test_captions_name_the_adapter_beside_the_model(tmp_path: Path) -> None:
    register_bundled_model(BUNDLED_FOLDER)

    assert resolve_model(VllmSettings(adapter=write(tmp_path / "cats")))[1] == "bundled+cats"
    assert resolve_model(VllmSettings())[1] == "bundled"


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"peft_type": "IA3"}, "an adapter of kind IA3; LoRA's are served"),
        ({"r": None}, r"says no rank \(r\)"),
        ({"r": True, "rank_pattern": {"q": "8"}}, r"says no rank \(r\)"),
        ({"rank_pattern": [4]}, "holds no settings of an adapter"),
    ],
)
def test_a_check_refuses_what_is_no_adapter_of_lora(tmp_path: Path, said: dict[str, Any], says: str) -> None:
    register_bundled_model(BUNDLED_FOLDER)

    with pytest.raises(ConfigurationError, match=rf"engine\.adapter: .*{says}"):
        check_engine(VllmSettings(adapter=write(tmp_path / "cats", **said)))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    register_bundled_model(BUNDLED_FOLDER)

    with pytest.raises(ConfigurationError, match=r"engine\.adapter: .*gone holds no adapter_config\.json"):
        check_engine(VllmSettings(adapter=tmp_path / "gone"))
