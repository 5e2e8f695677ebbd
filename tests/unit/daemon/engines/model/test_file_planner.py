"""The planner that needs no vLLM: silent of all that it does not know for certain. Its counts: tests/families."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigurationError, Poison
from daemon.config.engine_settings import VllmSettings
from daemon.engines.model.bundled import bundled_model
from daemon.engines.model.file_planner import file_planner
from daemon.prompts.prompt import Prompt
from testing.repository import ROOT

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

ASK = Prompt("Describe this video.")
STRING_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def copied(folder: Path, **changes: Any) -> Path:
    """Write the bundled model anew without its weights' bytes, with changes of its configuration."""
    for file in bundled_model().iterdir():
        if file.suffix in (".json", ".jinja"):
            (folder / file.name).write_bytes(file.read_bytes())
    (folder / "model.safetensors").symlink_to(bundled_model() / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    for path, value in changes.items():
        *parents, last = path.split("__")
        section = config
        for name in parents:
            section = section[name]
        section[last] = value
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.slow
def test_the_bundled_model_is_planned_without_vllm() -> None:
    """In a process of its own, where nobody else has imported vLLM."""
    asked = (
        "import sys; from neva.registration import register; register()\n"
        "from daemon.config.engine_settings import VllmSettings as Settings\n"
        "from daemon.engines.model.file_planner import file_planner\n"
        "from daemon.prompts.prompt import Prompt\n"
        "tokens = file_planner(Settings()).prompt_tokens(8, 64, 64, Prompt('Describe this video.'))\n"
        "print(tokens, 'vllm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["138", "False"]


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": ["Qwen2_5_VLForConditionalGeneration"]},
        {"architectures": ["LlavaForConditionalGeneration", "Other"]},
        {"model_type": "mistral3"},
        {"image_token_index": 4},
        {"vision_feature_select_strategy": "class"},
        {"vision_config__model_type": "siglip_vision_model"},
        {"vision_config__patch_size": 15},
        {"text_config__max_position_embeddings": None},
        {"text_config__rope_parameters": {"rope_type": "yarn", "factor": 2.0}},
        {"text_config__rope_scaling": {"type": "linear", "factor": 2.0}},
    ],
    ids=str,
)
def test_another_model_is_not_known(changes: dict[str, Any], tmp_path: Path) -> None:
    assert file_planner(VllmSettings(model=str(copied(tmp_path, **changes)))) is None


@pytest.mark.parametrize(
    "given",
    [
        {"args": {"mm_processor_kwargs": {"crop_size": 32}}},
        {"dtype": "float32"},
        {"tensor_parallel_size": 2},
        {"max_model_len": 5000},
        {"model": "owner/name"},
    ],
    ids=str,
)
def test_settings_that_vllm_must_judge_are_left_to_it(given: dict[str, Any]) -> None:
    assert file_planner(VllmSettings(**given)) is None


def test_a_shorter_context_is_kept() -> None:
    planner = file_planner(VllmSettings(max_model_len=300))
    assert planner is not None
    assert planner.max_model_len == 300

    with pytest.raises(Poison):
        planner.check(Prompt("What?", max_tokens=256), 8, 64, 64)


def test_tokens_of_the_tower_follow_from_its_patches(tmp_path: Path) -> None:
    folder = copied(tmp_path, vision_config__image_size=96, vision_feature_select_strategy="full")
    planner = file_planner(VllmSettings(model=str(folder)))
    assert planner is not None

    assert planner.plan(2, 64, 64, ASK).vision_tokens == 2 * (6 * 6 + 1)


def test_an_image_larger_than_any_batch_is_left_to_vllm(tmp_path: Path) -> None:
    planner = file_planner(VllmSettings(model=str(copied(tmp_path, vision_config__image_size=736))))
    assert planner is not None

    with pytest.raises(Poison, match="2116 tokens"):
        planner.check(Prompt("What?", max_tokens=8), 1, 64, 64)


def test_a_template_that_may_want_a_string_is_left_to_vllm(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "chat_template.jinja").write_text(STRING_TEMPLATE)
    planner = file_planner(VllmSettings(model=str(folder)))
    assert planner is not None

    for prompt in (ASK, Prompt("What?", chat_template=STRING_TEMPLATE)):
        with pytest.raises(Poison):
            planner.plan(1, 64, 64, prompt)


def test_of_two_templates_vllm_chooses(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": STRING_TEMPLATE}))
    planner = file_planner(VllmSettings(model=str(folder)))
    assert planner is not None

    with pytest.raises(Poison):
        planner.plan(1, 64, 64, ASK)


def test_a_model_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        file_planner(VllmSettings(model=str(copied(tmp_path, text_config__head_dim=33))))
