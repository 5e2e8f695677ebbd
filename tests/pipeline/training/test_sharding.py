"""Training on two processes that each hold a share of the model, against one that holds all of it."""

import numpy as np
import pytest
import torch

from neva.training.config_file import read_training_settings
from neva.training.export import served_name
from neva.training.settings import Stage
from tests.pipeline.training.bench import MARKS
from tests.pipeline.training.runs import STEPS, Runs

pytestmark = [*(mark for mark in MARKS if mark.name != "timeout"), pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """One process's run, and that of two with shares."""
    found = Runs(tmp_path_factory.mktemp("runs"))
    found.alone("one")
    found.two(("finetune", found.arguments("two", "trainer.strategy=fsdp2")))
    return found


def test_two_shares_learn_what_the_whole_learns(runs: Runs) -> None:
    whole, shared = runs.losses("one"), runs.losses("two")

    assert len(whole) == len(shared) == STEPS
    assert whole[-1] < 0.5 * whole[0]
    np.testing.assert_allclose(shared, whole, atol=1e-4, rtol=0)


def test_two_shares_export_what_the_whole_exports(runs: Runs) -> None:
    whole, shared = runs.tensors("one"), runs.tensors("two")

    assert whole.keys() == shared.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(shared[name], tensor, rtol=1e-3, atol=1e-4)


def test_a_share_is_half_of_the_whole(runs: Runs) -> None:
    (whole,), shares = runs.devices("one"), runs.devices("two")

    assert len(shares) == 2
    for share in shares:
        assert sum(share.values()) < 0.6 * sum(whole.values())
        assert all(share[kind] < 0.6 * whole[kind] for kind in whole)


def test_the_dry_run_says_what_both_held(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    from neva.training.devices.dry_run import dry_run, in_words

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name, keys in (("one", []), ("two", ["trainer.strategy=fsdp2", "trainer.devices=2"])):
        settings, _ = read_training_settings(None, runs.arguments(name, *keys), "finetune")
        said = "\n".join(dry_run(settings, "finetune"))

        fullest = max(runs.devices(name), key=lambda share: sum(share.values()))
        for kind, count in fullest.items():
            assert f"{kind:<12} {in_words(count):>9}" in said
        assert f"{STEPS} steps of 4 samples" in said
        assert "25.0 times the 8 records" in said
        assert f"samples/s, as the run in {runs.folder / name} measured" in said


def test_two_shares_that_were_killed_go_on_as_one_whole(runs: Runs) -> None:
    runs.cut_off("cut", "trainer.strategy=fsdp2", after=12)
    assert len(runs.losses("cut")) < STEPS

    runs.alone("cut")

    np.testing.assert_allclose(runs.losses("cut"), runs.losses("one"), atol=1e-4, rtol=0)
    whole, resumed = runs.tensors("one"), runs.tensors("cut")
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=1e-3, atol=1e-4)
    assert len(runs.devices("cut")) == 1


def test_every_stage_and_part_is_trained_in_shares_too(runs: Runs) -> None:
    """Three runs, each of them against one process's; what is frozen is written bit for bit."""
    from transformers import LlavaForConditionalGeneration

    few, one_each = "trainer.max_steps=3", "model.micro_batch_size=1"
    tower = ["model.mm_cfg.vision_encoder.freeze=false", "model.data.cache_features=false", few]
    again = "model.activations_checkpoint_granularity=full"
    whole: dict[str, tuple[Stage, list[str]]] = {
        "tower": ("finetune", tower),
        "bf16": ("pretrain", [few, "trainer.precision=bf16"]),
    }
    shared = {
        "tower-fsdp2": ("tower", ["trainer.strategy=fsdp2", one_each, again]),
        "tower-ddp": ("tower", ["trainer.strategy=ddp", one_each]),
        "bf16-fsdp2": ("bf16", ["trainer.strategy=fsdp2"]),
    }
    for name, (of, keys) in shared.items():  # a run each: processes that form a second group may meet in the first's
        runs.two((whole[of][0], runs.arguments(name, *whole[of][1], *keys)))

    for name, (stage, keys) in whole.items():
        runs.alone(name, *keys, stage=stage)
    for name, (of, _) in shared.items():
        near = 0.05 if of == "bf16" else 1e-4
        np.testing.assert_allclose(runs.losses(name), runs.losses(of), atol=near, rtol=0)
    before = LlavaForConditionalGeneration.from_pretrained(runs.model).state_dict()
    after = runs.tensors("bf16-fsdp2")
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[served_name(name)])}
    assert changed
    assert all("multi_modal_projector" in name for name in changed)
