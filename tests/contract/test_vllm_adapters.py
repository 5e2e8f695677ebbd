"""A checkpoint that sees with an adapter of its own, read as vLLM reads it: no weights are loaded."""

import shutil
from pathlib import Path

import pytest

from connectors.errors import ConfigurationError
from daemon.engines.vllm import library
from daemon.engines.vllm.load import load_model
from daemon.prompts.prompt import Prompt
from testing import tiny_models
from tests.contract.vllm_engines import MARKS, settings

pytestmark = [*(mark for mark in MARKS if mark.name != "asyncio"), pytest.mark.thorough]

TRUSTED = {"trust-remote-code": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build("phi4mm", tmp_path_factory.mktemp("models"))


def test_the_adapter_of_its_folder_is_switched_on_and_no_room_made_for_sound(folder: Path) -> None:
    loaded = load_model(settings(folder, args=TRUSTED), 4)

    adapter = library.adapter_of(loaded.arguments, "image")
    assert (adapter.lora_path, adapter.lora_int_id) == (str(folder / "vision-lora"), 1)
    assert (loaded.arguments["enable_lora"], loaded.arguments["max_lora_rank"]) == (True, 8)
    assert loaded.arguments["limit_mm_per_prompt"] == {"audio": 0, "image": 4}
    rendered = loaded.planner.encoder.render(Prompt("What?"), 2)
    assert "<|image_1|>\n<|image_2|>\nWhat?" in rendered


def test_without_it_the_model_is_refused(folder: Path) -> None:
    shutil.move(folder / "vision-lora", folder / "elsewhere")
    try:
        with pytest.raises(ConfigurationError, match=r"engine\.args\.default_mm_loras: .* adapter of its own"):
            load_model(settings(folder, args=TRUSTED), 4)
    finally:
        shutil.move(folder / "elsewhere", folder / "vision-lora")


@pytest.mark.parametrize(("model", "images"), [("minicpmv_4_6", 1), ("gemma4", 0)])
def test_a_tower_that_is_kept_for_images_alone_is_there_for_videos(model: str, images: int, tmp_path: Path) -> None:
    folder = tiny_models.build(model, tmp_path)

    limits = load_model(settings(folder), 4).arguments["limit_mm_per_prompt"]

    assert (limits["video"]["count"], limits["image"]) == (1, images)
