"""A dry run's numbers: what shards of real models hold, for any number of devices, and activations about right.

A process group that only pretends lets one process hold the share that it would hold among many.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import distributed  # noqa: E402

from neva import registration  # noqa: E402
from neva.training.config_file import read_training_settings  # noqa: E402
from neva.training.conversation_task import ConversationTask  # noqa: E402
from neva.training.conversations import facts_of  # noqa: E402
from neva.training.devices.estimate import activation_bytes, estimate  # noqa: E402
from neva.training.devices.held_bytes import held_bytes  # noqa: E402
from neva.training.devices.sharding import shard  # noqa: E402
from neva.training.loop import make_optimiser  # noqa: E402
from neva.training.model import load_model  # noqa: E402
from neva.training.settings import TrainingSettings  # noqa: E402
from testing import tiny_models  # noqa: E402

pytestmark = [
    pytest.mark.timeout(900),
    *(pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning", "UserWarning")),
]


@contextmanager
def pretended(processes: int) -> Iterator[Any]:
    """Be the first of ``processes`` that nobody else is one of."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=processes)
    try:
        yield SimpleNamespace(device=torch.device("cpu"), num_processes=processes)
    finally:
        distributed.destroy_process_group()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    registration.register()
    return {"bundled": "bundled", "tiny": str(tiny_models.build("llava", tmp_path_factory.mktemp("models")))}


def settings_of(model: str, *overrides: str) -> TrainingSettings:
    base = [f"model.restore_from_path={model}", "model.mm_cfg.llm.model_type=mistral", "model.data.num_frames=4"]
    return read_training_settings(None, [*base, *overrides], "finetune")[0]


def stepped(task: Any, settings: TrainingSettings) -> Any:
    """Return an optimiser of ``task`` after a step with gradients of zero."""
    trained = [weight for weight in task.parameters() if weight.requires_grad]
    for weight in trained:
        weight.grad = torch.zeros_like(weight)
    optimiser = make_optimiser(trained, settings.model.optim)
    optimiser.step()
    return optimiser


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize("name", ["bundled", "tiny"])
def test_a_share_holds_what_the_dry_run_says(models: dict[str, str], name: str, precision: str, processes: int) -> None:
    settings = settings_of(models[name], f"trainer.precision={precision}")
    said = estimate(load_model(settings, facts_of(settings), empty=True), settings, processes, sharded=processes > 1)

    task = ConversationTask(load_model(settings, facts_of(settings)).model)
    if processes > 1:
        with pretended(processes) as accelerator:
            shard(task, accelerator, bf16=precision == "bf16")
            held = held_bytes(task, stepped(task, settings))
    else:
        held = held_bytes(task, stepped(task, settings))

    assert said.held == held


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("tower", [True, False])
def test_activations_are_about_what_a_step_keeps(models: dict[str, str], freeze: bool, tower: bool) -> None:
    keys = [f"model.mm_cfg.llm.freeze={freeze}", f"model.mm_cfg.vision_encoder.freeze={tower}"]
    settings = settings_of(models["bundled"], "trainer.precision=32", "model.encoder_seq_length=128", *keys)
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

    assert 0.5 < activation_bytes(llava, settings) / sum(kept.values()) < 2


def test_the_parts_are_counted_apart(models: dict[str, str]) -> None:
    settings = settings_of(models["bundled"])

    said = estimate(load_model(settings, facts_of(settings), empty=True), settings, 1, sharded=False)

    assert [(part.name, part.parameters, part.trained) for part in said.parts] == [
        ("vision tower", 894_208, 0),
        ("projector", 33_024, 33_024),
        ("language model", 803_712, 803_712),
    ]
    assert said.total == said.held.total + said.activations


def test_ddp_holds_the_whole_and_its_buckets(models: dict[str, str]) -> None:
    settings = settings_of(models["tiny"])
    llava = load_model(settings, facts_of(settings), empty=True)
    one, eight = (estimate(llava, settings, devices, sharded=False) for devices in (1, 8))

    assert eight.held == one.held
    assert (one.working, eight.working) == (0, one.held.gradients)
