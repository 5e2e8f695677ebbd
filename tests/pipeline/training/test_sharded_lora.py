"""LoRA on two processes that each hold a share of the model, against one that holds all of it."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.pipeline.training.bench import MARKS
from tests.pipeline.training.runs import Runs

pytestmark = [*(mark for mark in MARKS if mark.name != "timeout"), pytest.mark.thorough, pytest.mark.timeout(900)]

STEPS = 30
# An odd rank is divided unevenly, and queries, keys and values share a matrix, as gate and up share another.
LORA = [
    "model.peft.peft_scheme=lora",
    "model.peft.lora_tuning.target_modules=[all]",
    "model.peft.lora_tuning.adapter_dim=5",
    *("model.mm_cfg.llm.freeze=true", f"trainer.max_steps={STEPS}", "exp_manager.every_n_train_steps=5"),
    "model.optim.lr=2e-2",
]
SHARED = "trainer.strategy=fsdp2"


def assert_same_export(runs: Runs, name: str, wanted: str) -> None:
    """Hold all three folders of a run against another one's: the model, the one below the adapter, and the adapter."""
    for folder in ("model", "base"):
        found, whole = (runs.tensors(run, folder) for run in (name, wanted))
        assert found.keys() == whole.keys()
        for weight, tensor in whole.items():
            torch.testing.assert_close(found[weight], tensor, rtol=1e-3, atol=1e-4)
    found, whole = (load_file(runs.folder / run / "adapter" / "adapter_model.safetensors") for run in (name, wanted))
    assert found.keys() == whole.keys()
    for weight, tensor in whole.items():
        torch.testing.assert_close(found[weight], tensor, rtol=1e-3, atol=1e-4)
    settings = [
        json.loads((runs.folder / run / "adapter" / "adapter_config.json").read_text()) for run in (name, wanted)
    ]
    for said in settings:
        del said["base_model_name_or_path"]
        said["target_modules"] = sorted(said["target_modules"])
    assert settings[0] == settings[1]


def test_an_adapter_learns_in_two_shares_what_it_learns_in_the_whole(runs: Runs) -> None:
    runs.alone("one", *LORA)
    runs.two(("finetune", runs.arguments("two", *LORA, SHARED)))

    whole, shared = runs.losses("one"), runs.losses("two")
    assert len(whole) == len(shared) == STEPS
    assert whole[-1] < 0.9 * whole[0]
    np.testing.assert_allclose(shared, whole, atol=1e-4, rtol=0)
    (held,) = runs.devices("one")
    assert all(share[kind] < 0.6 * held[kind] for share in runs.devices("two") for kind in held)
    assert_same_export(runs, "two", "one")

    runs.cut_off("cut", *LORA, SHARED, after=6)
    assert len(runs.losses("cut")) < STEPS
    runs.alone("cut", *LORA)

    np.testing.assert_allclose(runs.losses("cut"), whole, atol=1e-4, rtol=0)
    assert_same_export(runs, "cut", "one")


@pytest.fixture
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"))
