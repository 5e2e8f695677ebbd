"""The adapter by which a checkpoint sees: switched on where it lies in the folder, else the model is refused."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from connectors.errors import ConfigurationError
from daemon.engines.vllm.adapters import check_adapter, own_adapter

SEEING = SimpleNamespace(vision_lora={"r": 256})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "vision-lora").mkdir()
    return tmp_path


@pytest.mark.parametrize(("rank", "room"), [(1, 1), (200, 256), (256, 256), (300, 320)])
def test_the_adapter_in_the_folder_is_switched_on_with_room_for_its_rank(folder: Path, rank: int, room: int) -> None:
    arguments = own_adapter(str(folder), {"vision_lora": {"r": rank}})

    adapter = str(folder / "vision-lora")
    assert arguments == {
        "enable_lora": True,
        "max_lora_rank": room,
        "default_mm_loras": {"image": adapter, "video": adapter},
    }
    check_adapter(SEEING, arguments, "image")


def test_other_models_get_no_adapter(folder: Path) -> None:
    assert own_adapter(str(folder), {"model_type": "llava"}) == {}
    check_adapter(SimpleNamespace(), {}, "image")


def test_a_checkpoint_without_its_adapter_is_refused(tmp_path: Path) -> None:
    arguments = own_adapter(str(tmp_path), {"vision_lora": {"r": 256}})

    with pytest.raises(ConfigurationError, match=r"engine\.args\.default_mm_loras: .*folder of the whole checkpoint"):
        check_adapter(SEEING, arguments, "image")


def test_a_name_for_the_hub_is_refused_until_the_adapter_is_named() -> None:
    arguments = own_adapter("microsoft/Phi-4-multimodal-instruct", None)
    named = {"enable_lora": True, "max_lora_rank": 320, "default_mm_loras": {"image": "/models/vision-lora"}}

    check_adapter(SEEING, named, "image")
    for given in (arguments, {**named, "enable_lora": False}, {**named, "default_mm_loras": {"audio": "/models"}}):
        with pytest.raises(ConfigurationError, match="holds vision-lora"):
            check_adapter(SEEING, given, "image")
