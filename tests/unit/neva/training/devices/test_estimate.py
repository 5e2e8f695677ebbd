"""A dry run's numbers: what shards of real models hold, for any number of devices, and activations about right."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors import safe_open  # noqa: E402

from daemon.engines.model.bundled import bundled_model  # noqa: E402
from neva import registration  # noqa: E402
from neva.training.config_file import read_training_settings  # noqa: E402
from neva.training.conversation_task import ConversationTask  # noqa: E402
from neva.training.conversations import facts_of  # noqa: E402
from neva.training.devices.estimate import activation_bytes, estimate  # noqa: E402
from neva.training.devices.held_bytes import HeldBytes, held_bytes  # noqa: E402
from neva.training.devices.sharding import shard  # noqa: E402
from neva.training.loop import make_optimiser  # noqa: E402
from neva.training.model import load_model  # noqa: E402
from neva.training.settings import TrainingSettings  # noqa: E402
from testing import tiny_models  # noqa: E402
from tests.unit.neva.training.devices.pretended import pretended  # noqa: E402

pytestmark = [
    pytest.mark.slow,  # it makes models and takes steps
    pytest.mark.timeout(900),
    *(pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning", "UserWarning")),
]


# An odd rank, which no number of processes but 1 divides, and matrices that several modules share.
LORA = (*("model.peft.peft_scheme=lora", "model.mm_cfg.llm.freeze=true", "model.peft.lora_tuning.adapter_dim=5"),)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    registration.register()
    return {"bundled": "bundled", "tiny": str(tiny_models.build("llava", tmp_path_factory.mktemp("models")))}


def settings_of(model: str, *overrides: str) -> TrainingSettings:
    base = [f"model.restore_from_path={model}", "model.mm_cfg.llm.model_type=mistral", "model.data.num_frames=4"]
    return read_training_settings(None, [*base, *overrides], "finetune")[0]


def lora(modules: str) -> list[str]:
    return [*LORA, f"model.peft.lora_tuning.target_modules={modules}"]


def stepped(task: Any, settings: TrainingSettings) -> Any:
    """Return an optimiser of ``task`` after a step with gradients of zero."""
    trained = [weight for weight in task.parameters() if weight.requires_grad]
    for weight in trained:
        weight.grad = torch.zeros_like(weight)
    optimiser = make_optimiser(trained, settings.model.optim)
    optimiser.step()
    return optimiser


def held_by(settings: TrainingSettings, processes: int) -> HeldBytes:
    """Return what the first of ``processes`` that share a model holds after a step."""
    task = ConversationTask(load_model(settings, facts_of(settings)).model)
    if processes > 1:
        with pretended(processes) as accelerator:
            shard(task, accelerator, bf16=settings.trainer.precision == "bf16")
            return held_bytes(task, stepped(task, settings))
    return held_bytes(task, stepped(task, settings))


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize("name", ["bundled", "tiny"])
def test_a_share_holds_what_the_dry_run_says(models: dict[str, str], name: str, precision: str, processes: int) -> None:
    settings = settings_of(models[name], f"trainer.precision={precision}")
    said = estimate(load_model(settings, facts_of(settings), empty=True), settings, processes, sharded=processes > 1)

    assert said.held == held_by(settings, processes)


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_a_share_of_an_adapter_holds_what_the_dry_run_says(
    models: dict[str, str], precision: str, processes: int
) -> None:
    settings = settings_of(models["tiny"], f"trainer.precision={precision}", *lora("[all]"))
    said = estimate(load_model(settings, facts_of(settings), empty=True), settings, processes, sharded=processes > 1)

    assert said.held == held_by(settings, processes)
    assert said.held.gradients < 0.2 * said.held.weights


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("tower", [True, False])
def test_activations_are_about_what_a_step_keeps(models: dict[str, str], freeze: bool, tower: bool) -> None:
    keys = [f"model.mm_cfg.llm.freeze={freeze}", f"model.mm_cfg.vision_encoder.freeze={tower}"]
    said, kept = said_and_kept(models["bundled"], *keys)

    assert 0.5 < said / kept < 2


@pytest.mark.parametrize("modules", ["[attention_qkv]", "[mlp]", "[all]"])
def test_an_adapter_adds_what_it_keeps(models: dict[str, str], modules: str) -> None:
    """The language model below it is frozen either way."""
    said, kept = said_and_kept(models["bundled"], "model.mm_cfg.llm.freeze=true")

    more_said, more_kept = said_and_kept(models["bundled"], *lora(modules))

    assert 0.8 < (more_said - said) / (more_kept - kept) < 1.25


def said_and_kept(model: str, *keys: str) -> tuple[int, int]:
    """Return the bytes of activations that are said, and those that a step keeps, each storage once."""
    settings = settings_of(model, "trainer.precision=32", "model.encoder_seq_length=128", *keys)
    llava = load_model(settings, facts_of(settings))
    task = ConversationTask(llava.model)
    ids = torch.full((1, 128), 5)
    ids[:, 1:65] = llava.model.config.image_token_index
    targets = torch.where(ids == 5, ids, -100)
    weights = {weight.untyped_storage().data_ptr() for weight in task.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights:
            kept[place] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = task({"ids": ids, "targets": targets, "pixels": torch.rand(4, 3, 64, 64)})
    loss.backward()
    return activation_bytes(llava, settings), sum(kept.values())


def parameters_of(model: Path) -> Counter[str]:
    """Return how many parameters a model's file holds of each of its parts."""
    counted: Counter[str] = Counter()
    with safe_open(model / "model.safetensors", "pt") as file:
        for name in file.keys():  # noqa: SIM118 - it is no mapping
            counted[name.partition(".")[0]] += math.prod(file.get_slice(name).get_shape())
    return counted


def test_the_parts_are_counted_apart(models: dict[str, str]) -> None:
    settings, held = settings_of(models["bundled"]), parameters_of(bundled_model())

    said = estimate(load_model(settings, facts_of(settings), empty=True), settings, 1, sharded=False)

    assert [(part.name, part.parameters, part.trained) for part in said.parts] == [
        ("vision tower", held["vision_tower"], 0),
        ("projector", held["multi_modal_projector"], held["multi_modal_projector"]),
        ("language model", held["language_model"], held["language_model"]),
    ]
    assert said.total == said.held.total + said.activations


def test_an_adapter_is_counted_as_a_part_of_its_own(models: dict[str, str]) -> None:
    settings, held = settings_of(models["bundled"], *lora("[attention_dense]")), parameters_of(bundled_model())
    llava = load_model(settings, facts_of(settings), empty=True)
    text = llava.model.config.text_config

    *_, language, adapter = estimate(llava, settings, 1, sharded=False).parts

    count = text.num_hidden_layers * 5 * (text.num_attention_heads * text.head_dim + text.hidden_size)
    assert (language.name, language.parameters, language.trained) == ("language model", held["language_model"], 0)
    assert (adapter.name, adapter.parameters, adapter.trained) == ("adapter", count, count)


def test_ddp_holds_the_whole_and_its_buckets(models: dict[str, str]) -> None:
    settings = settings_of(models["tiny"])
    llava = load_model(settings, facts_of(settings), empty=True)
    one, eight = (estimate(llava, settings, devices, sharded=False) for devices in (1, 8))

    assert eight.held == one.held
    assert (one.working, eight.working) == (0, one.held.gradients)
