"""A LoRA adapter over a tiny LLaVA in the real vLLM: it answers as the merged model; what does not fit is refused."""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.errors import ConfigurationError
from daemon.engines.vllm.adapters import RANKS
from daemon.engines.vllm.engine import VllmEngine
from daemon.engines.vllm.load import load_model
from daemon.prompts.prompt import Prompt
from testing import tiny_models
from tests.contract.vllm_engines import MARKS, running, settings
from tests.families.reference import transformers_answers
from tests.windows_of_noise import noise

pytestmark = MARKS

SHAPES = [(1, 56, 56), (4, 56, 56), (8, 120, 160)]
WINDOWS = [noise(*shape, seed=number) for number, shape in enumerate(SHAPES)]
LONG = Prompt("What is shown?", max_tokens=24, min_tokens=24)
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base model, an adapter as training exports it, and the model that both make when merged."""
    import torch
    from safetensors.torch import save_file
    from transformers import LlavaForConditionalGeneration

    from neva.training.adapters.lora import add_adapter, export_adapter, merged
    from neva.training.adapters.settings import PeftSettings
    from neva.training.export import served_name

    folder = tmp_path_factory.mktemp("models")
    base = tiny_models.build("llava", folder)
    tuning = {"adapter_dim": 12, "alpha": 20, "target_modules": ["all"]}
    peft = PeftSettings.model_validate({"peft_scheme": "lora", "lora_tuning": tuning})
    model = LlavaForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    add_adapter(model, peft)
    torch.manual_seed(11)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.3)
    export_adapter(folder / "adapter", model, model.state_dict(), str(base))
    shutil.copytree(base, folder / "merged")
    whole = {served_name(name): tensor.clone() for name, tensor in merged(model.state_dict(), peft).items()}
    if model.config.text_config.tie_word_embeddings:
        del whole["language_model.lm_head.weight"]
    save_file(whole, folder / "merged" / "model.safetensors", metadata={"format": "pt"})
    base.rename(folder / "base")
    return folder


@pytest.fixture(scope="module")
def expected(models: Path) -> dict[str, list[tuple[int, ...]]]:
    """The answers of both models by transformers."""
    return {name: transformers_answers(models / name, WINDOWS, LONG) for name in ("base", "merged")}


async def answers(engine: VllmEngine) -> list[tuple[int, ...]]:
    done = await asyncio.gather(*(engine.describe(one, LONG, f"clip/{n}") for n, one in enumerate(WINDOWS)))
    return [one.token_ids for one in done]


async def test_over_its_base_it_answers_as_the_merged_model_token_for_token(
    models: Path, expected: dict[str, list[tuple[int, ...]]]
) -> None:
    async with running(models / "base", adapter=models / "adapter") as engine:
        assert engine.model_id == "base+adapter"
        assert await answers(engine) == expected["merged"]
    assert expected["merged"] != expected["base"]


@pytest.mark.thorough
async def test_merged_the_model_is_served_as_any_other(
    models: Path, expected: dict[str, list[tuple[int, ...]]]
) -> None:
    async with running(models / "merged") as engine:
        assert await answers(engine) == expected["merged"]


def test_vllm_makes_room_for_its_rank_and_says_that_its_base_has_moved(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = load_model(settings(models / "base", adapter=models / "adapter"), 4).arguments

    assert (arguments["enable_lora"], arguments["max_lora_rank"]) == (True, 16)
    assert arguments["default_mm_loras"]["image"] == str(models / "adapter")
    assert f"was trained over {models / 'llava'}, and engine.model is {models / 'base'}." in caplog.text


def with_config(**changes: object) -> Callable[[Path], None]:
    def change(adapter: Path) -> None:
        said = json.loads((adapter / CONFIG).read_text())
        (adapter / CONFIG).write_text(json.dumps(said | changes))

    return change


def with_weights(change: Callable[[str], str | None], cut: int = 0) -> Callable[[Path], None]:
    """Return what renames an adapter's weights, leaves out those without a name, and cuts channels of the others."""

    def write(adapter: Path) -> None:
        from safetensors.torch import load_file, save_file

        renamed = {change(name): tensor for name, tensor in load_file(adapter / WEIGHTS).items()}
        kept = {
            name: (tensor[:, cut:] if "lora_A" in name else tensor).contiguous()
            for name, tensor in renamed.items()
            if name is not None
        }
        save_file(kept, adapter / WEIGHTS)

    return write


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda adapter: (adapter / CONFIG).unlink(), "holds no adapter_config.json"),
        (lambda adapter: (adapter / WEIGHTS).unlink(), "holds no adapter_model.safetensors"),
        (lambda adapter: (adapter / CONFIG).write_text("{"), "is not JSON"),
        (lambda adapter: (adapter / WEIGHTS).write_bytes(b"\xff" * 40), "its weights are damaged"),
        (with_config(peft_type="IA3"), "kind IA3; LoRA's are served"),
        (with_config(r=0), "says no rank"),
        (with_config(r=RANKS[-1] + 1), "its rank is 513; vLLM makes room for 512"),
        (with_config(use_dora=True), "DoRA"),
        (with_config(modules_to_save=["multi_modal_projector"]), "modules_to_save"),
        (with_weights(lambda name: name.replace("layers.1.", "layers.77.")), r"no language_model\.model\.layers\.77\."),
        (with_weights(lambda name: name.replace("language_model.", "")), "another model: this one has no model.layers"),
        (with_weights(lambda name: name.replace("language_model.layers", "vision_tower.layers")), "leaves as it is"),
        (with_weights(lambda name: name, cut=4), r"trained over another model: .* channels, not "),
        (with_weights(lambda name: name.replace("lora_A", "lora_C")), "unsupported LoRA weight"),
    ],
)
def test_one_that_does_not_fit_is_refused_with_a_sentence(
    models: Path, tmp_path: Path, change: Callable[[Path], None], says: str
) -> None:
    adapter = shutil.copytree(models / "adapter", tmp_path / "adapter")
    change(adapter)

    with pytest.raises(ConfigurationError, match=rf"engine\.adapter: .*{says}") as refused:
        load_model(settings(models / "base", adapter=adapter), 4)

    assert refused.value.exit_code == 78


@pytest.mark.parametrize("name", ["enable-lora", "max_lora_rank", "default_mm_loras"])
def test_what_it_says_is_not_said_twice(models: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"engine\.args\.\w+: engine\.adapter says it"):
        load_model(settings(models / "base", adapter=models / "adapter", args={name: 16}), 4)
